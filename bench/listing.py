"""``livingai list`` on many executions: ``python -m bench.listing [EXECUTIONS]`` (100,000).

The executions are written into a SQLite store of a temporary folder, as writers write them; then
the command is run as a process of its own, once without measuring, then several times. A page of 50
by id has to take at most 0.3 s, as the median; what reads all executions is printed for comparison.
The exit status is 1 if the page takes longer.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from livingai.stores.sqlite import SQLiteStore
from livingai.testing import make_row

LIMIT_S = 0.3
_RUNS = 9
_BATCH = 5000


def fill(database: Path, executions: int) -> None:
    """So many executions of one node with a small state each."""
    store = SQLiteStore(database)
    try:
        for start in range(0, executions, _BATCH):
            names = range(start, min(start + _BATCH, executions))
            store.commit([make_row(f"run-{n:07}", 0, blob=b"\0state %d" % n) for n in names])
    finally:
        store.close()


def measure(database: Path, *arguments: str, runs: int = _RUNS) -> list[tuple[float, float]]:
    """Wall and CPU seconds of each run of the command."""
    command = [sys.executable, "-m", "livingai.cli", "list", "--store", str(database), *arguments]
    found = []
    for number in range(runs + 1):
        before, began = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        took, after = time.perf_counter() - began, os.times()
        if number:  # the first one finds nothing in the page cache
            cpu = after.children_user + after.children_system
            found.append((took, cpu - before.children_user - before.children_system))
    return found


def main() -> int:
    """Fill, measure, print; the exit status."""
    executions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "agent.db")
        fill(database, executions)
        print(f"livingai list on {executions} executions, {_RUNS} runs, median (least to most)")
        page = measure(database)
        lines = [
            ("a page of 50 by id", page),
            ("a page behind the middle", measure(database, "--after", f"run-{executions // 2:07}")),
            ("the 50 updated last (reads all)", measure(database, "--sort", "updated", runs=3)),
        ]
        for label, found in lines:
            walls, cpus = sorted(w for w, _ in found), [c for _, c in found]
            print(
                f"{label:32} {statistics.median(walls):.3f} s ({walls[0]:.3f} to {walls[-1]:.3f}), "
                f"CPU {statistics.median(cpus):.3f} s"
            )
    return int(statistics.median(wall for wall, _ in page) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
