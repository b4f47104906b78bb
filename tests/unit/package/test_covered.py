"""The table of `make coverage`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.covered import Lines, by_package, read, table


def test_the_sums_of_a_report(tmp_path: Path) -> None:
    files = {"queue/a.py": (10, 5), "queue/b.py": (30, 30), "stores/redis/c.py": (60, 0),
             "queue/empty.py": (0, 0)}  # fmt: skip
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"files": {
        path: {"summary": {"num_statements": lines, "covered_lines": run}}
        for path, (lines, run) in files.items()
    }}))  # fmt: skip
    modules = read(report)
    sums = by_package(modules)
    assert list(sums) == ["queue", "stores/redis", "in all"]
    assert sums["queue"] == Lines(40, 35)
    assert sums["in all"] == Lines(100, 35)
    shown = table(modules).splitlines()
    assert shown[1].split() == ["queue", "40", "5", "87.5", "%"]
    assert shown[-3].startswith("stores/redis/c.py"), "the one with the least comes first"
    assert not any("empty" in line for line in shown)
