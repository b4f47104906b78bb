"""``make mutants``: put each fault of the tables in, and see whether its tests notice it."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from tests.mutants.table import Mutant, load
from tests.mutants.trial import Tree, Trial, Verdict

#: The part of the faults that has to be noticed.
GOAL = 0.95


def main(arguments: list[str] | None = None) -> int:
    """0: enough were noticed, and each survivor is explained; 1: not so; 2: no trial was made."""
    parser = argparse.ArgumentParser(prog="make mutants ARGS=...", description=__doc__)
    parser.add_argument("only", nargs="*", help="rooms, or room/name; all if none is given")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time (%(default)s)")
    parser.add_argument("--longest", type=float, default=600.0, help="seconds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-baseline", action="store_true", help="trust that all tests pass")
    parser.add_argument(
        "--output", action="store_true", help="show what the tests of survivors say"
    )
    options = parser.parse_args(arguments)
    chosen = _chosen(load(), options.only)
    if not chosen:
        print("no mutant has such a name", file=sys.stderr)
        return 2
    print(f"{len(chosen)} mutants, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="livingai-mutants-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL of a test that root runs is another user's process
        trees = [Tree(Path(folder, str(n)), options.seed) for n in range(options.jobs)]
        if not options.no_baseline:
            tests = tuple(sorted({test for mutant in chosen for test in mutant.tests}))
            healthy = trees[0].run(tests, 10 * options.longest)
            if healthy.verdict is not Verdict.SURVIVED:
                print(f"{healthy.output}\nwithout any fault: {healthy.by}", file=sys.stderr)
                return 2
        results = _try_all(chosen, trees, options.longest, options.output)
    return _told(results)


def _chosen(mutants: list[Mutant], only: list[str]) -> list[Mutant]:
    return [m for m in mutants if not only or m.room in only or m.title in only]


def _try_all(
    mutants: list[Mutant], trees: list[Tree], longest_s: float, output: bool
) -> dict[Mutant, Trial]:
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    results: dict[Mutant, Trial] = {}

    def work(tree: Tree) -> None:
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            trial = results[mutant] = tree.try_(mutant, longest_s)
            told = f"{trial.verdict.value:8} {mutant.title} ({trial.seconds:.0f} s): {trial.by}"
            if trial.verdict is not Verdict.NOTICED and output:
                told = f"{trial.output}\n{told}"
            print(told, flush=True)

    threads = [threading.Thread(target=work, args=(tree,)) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _told(results: dict[Mutant, Trial]) -> int:
    counts: dict[str, Counter[Verdict]] = {}
    for mutant, trial in results.items():
        counts.setdefault(mutant.room, Counter())[trial.verdict] += 1
    print(f"\n{'room':12}{'faults':>8}{'noticed':>9}{'survived':>10}{'broken':>8}")
    for room, count in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        noticed, survived, broken = (count[verdict] for verdict in Verdict)
        print(f"{room:12}{count.total():8}{noticed:9}{survived:10}{broken:8}")
    wrong = [
        f"{mutant.title}: {trial.verdict.value}"
        + (", and its table says that nothing can notice it" if mutant.survives else "")
        for mutant, trial in results.items()
        if (trial.verdict is Verdict.NOTICED) == bool(mutant.survives)
    ]
    noticed = sum(trial.verdict is Verdict.NOTICED for trial in results.values())
    for line in wrong:
        print(line)
    return int(bool(wrong) or noticed < GOAL * len(results))


if __name__ == "__main__":
    sys.exit(main())
