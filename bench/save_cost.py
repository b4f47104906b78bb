"""``python -m bench.save_cost``: what a save costs its caller, here and in an earlier commit.

Two processes, one for each tree, save in turns, a block at a time, each to a database and a service
of its own; so what the machine does besides meets both alike. Of each block counts the CPU time of
the thread that saves, per save. The difference of each pair of blocks is taken, and of these the
median, with its quartiles. The exit status is 1 if the median is above the limit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.gate import ROOT, check_out

#: Run in the tree's own process: saves as many as each line of input says, and prints microseconds
#: of CPU per save.
_SIDE: Final = """
import sys, time
from livingai import CheckpointEngine, ExecutionNode, Status, open_store
state = {"messages": ["x" * 100] * 8}
with CheckpointEngine(open_store(f"sqlite:///{sys.argv[1]}"), cache_bytes=0) as engine:
    for line in sys.stdin:
        count = int(line)
        nodes = [ExecutionNode("run-1", status=Status.SUCCESS) for _ in range(count)]
        save = engine.save_sync
        began = time.thread_time_ns()
        for node in nodes:
            save(node, state)
        took = time.thread_time_ns() - began
        engine.flush_sync()
        print(took / count / 1000, flush=True)
"""


class Side:
    """A process that saves with the code of one tree."""

    def __init__(self, tree: Path, database: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SIDE, str(database)],
            env={**os.environ, "PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
        )

    def block(self, saves: int) -> float:
        """Microseconds of CPU per save, over so many."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{saves}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and judge; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.save_cost", description=__doc__)
    parser.add_argument("--against", metavar="COMMIT", required=True)
    parser.add_argument("--pairs", type=int, default=60, help="of blocks (60)")
    parser.add_argument("--saves", type=int, default=500, help="of a block (500)")
    parser.add_argument("--limit-us", type=float, default=2.0, help="(2.0)")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        check_out(chosen.against, place / "tree")
        sides = Side(place / "tree", place / "before.db"), Side(ROOT, place / "now.db")
        for side in sides:
            stack.callback(side.close)
            side.block(chosen.saves)  # caches are warm, the service is up
        before: list[float] = []
        now: list[float] = []
        for number in range(chosen.pairs):
            order = ((0, before), (1, now)) if number % 2 else ((1, now), (0, before))
            for which, found in order:
                found.append(sides[which].block(chosen.saves))
    differences = [b - a for a, b in zip(before, now, strict=True)]
    for name, values in (("before", before), ("now", now), ("difference", differences)):
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:10} {middle:6.2f} us per save (quartiles {low:.2f} to {high:.2f})")
    return int(statistics.median(differences) > chosen.limit_us)


if __name__ == "__main__":
    sys.exit(main())
