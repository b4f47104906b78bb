"""What the processes of a run have run: ``make coverage`` ends with it.

    python -m tests.covered

A table by package, the modules with the least, and ``.coverage/report.txt`` with every line that no
process has run. What a process has run that ended by SIGKILL is not known.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import coverage

_FOLDER = Path(".coverage")
#: Modules that are named as those with the least.
_LEAST = 15


class Lines(NamedTuple):
    """Lines of code, and those of them that were run."""

    all: int
    run: int

    def __str__(self) -> str:
        return f"{self.all:7} {self.all - self.run:7} {self.percent:6.1f} %"

    @property
    def percent(self) -> float:
        """Of all lines."""
        return 100 * self.run / self.all if self.all else 100.0


def by_package(modules: dict[str, Lines]) -> dict[str, Lines]:
    """The sums of the modules of each folder, and of all."""
    sums: dict[str, Lines] = defaultdict(lambda: Lines(0, 0))
    for path, lines in modules.items():
        for name in (str(Path(path).parent), "in all"):
            sums[name] = Lines(sums[name].all + lines.all, sums[name].run + lines.run)
    return {name: sums[name] for name in [*sorted(set(sums) - {"in all"}), "in all"]}


def table(modules: dict[str, Lines]) -> str:
    """For people."""
    least = sorted((m for m in modules.items() if m[1].all), key=lambda item: item[1].percent)
    rows = [f"{'package':44} {'lines':>7} {'not run':>7} {'run':>8}"]
    rows += [f"{name:44} {lines}" for name, lines in by_package(modules).items()]
    rows += ["", "modules with the least"]
    rows += [f"{name:44} {lines}" for name, lines in least[:_LEAST]]
    return "\n".join(rows)


def read(report: Path) -> dict[str, Lines]:
    """Every module of a JSON report of coverage.py."""
    found = {}
    for path, told in json.loads(report.read_text())["files"].items():
        summary = told["summary"]
        found[path] = Lines(summary["num_statements"], summary["covered_lines"])
    return found


def main() -> int:
    """Put together what the processes have written, and print it."""
    measured = coverage.Coverage()
    try:
        measured.combine([str(_FOLDER)], keep=True)
        measured.json_report(outfile=str(_FOLDER / "report.json"))
    except coverage.CoverageException as error:
        print(f"no process has written what it has run: {error}", file=sys.stderr)
        return 1
    with open(_FOLDER / "report.txt", "w", encoding="utf-8") as file:
        measured.report(file=file, show_missing=True)
    print(table(read(_FOLDER / "report.json")))
    print(f"\nevery line that was not run: {_FOLDER}/report.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
