"""``python -m bench.gate``: CPU per save of this tree against that of an earlier commit.

Both are run in turns by this tree's benchmark, in the same virtual environment, so that what the
machine does besides meets both alike. CPU time is what a busy machine changes least; of the pairs'
ratios the median counts. The exit status is 1 if that is above the limit in any tier, 2 if nothing
could be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from bench.tiers import MODES, TIERS, Mode

ROOT: Final = Path(__file__).resolve().parents[1]
#: The commit that speed is compared with, and what it was.
BASELINE_FILE: Final = ROOT / "bench" / "baseline.txt"
ROLES: Final = ("agents", "dispatcher", "compressors", "writers", "others")


class GateError(Exception):
    """Nothing could be measured; the message says why."""


class Pair(NamedTuple):
    """CPU per save by role, in ms, of the baseline and of this tree, measured one after the
    other."""

    before: dict[str, float]
    now: dict[str, float]

    @property
    def ratio(self) -> float:
        """All roles of this tree over all of the baseline."""
        return sum(self.now.values()) / sum(self.before.values())


def baseline() -> str:
    """The commit of :data:`BASELINE_FILE`."""
    lines = BASELINE_FILE.read_text(encoding="utf-8").splitlines()
    return next(line.split()[0] for line in lines if line and not line.startswith("#"))


def check_out(commit: str, folder: Path) -> None:
    """Write the commit's tree to ``folder``, with this tree's benchmark.

    Raises:
        GateError: this is no clone, or the commit is not in it.
    """
    for command in (
        ("clone", "--quiet", "--no-checkout", str(ROOT), str(folder)),
        ("-C", str(folder), "checkout", "--quiet", "--detach", commit),
    ):
        done = subprocess.run(("git", *command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise GateError(
                f"commit {commit} cannot be had here: {done.stderr.strip()}; in a shallow clone "
                "`git fetch --unshallow` gets it, or name another one with --against"
            )
    shutil.rmtree(folder / "bench")
    shutil.copytree(ROOT / "bench", folder / "bench")


def mode_of(tier: str, asked: Mode | None) -> Mode:
    """The mode in which ``tier`` is measured: what was asked for, or the first that it has.

    Raises:
        GateError: it is not measured in the mode that was asked for.
    """
    modes = TIERS[tier].modes
    if asked not in (None, *modes):
        raise GateError(f"tier {tier} is measured in mode {' and '.join(modes)} only")
    return asked or modes[0]


def measure(tree: Path, tier: str, mode: Mode, quick: bool) -> dict[str, float]:
    """One run of a tier on the livingai of ``tree``: CPU per save by role, in ms.

    Raises:
        GateError: the run failed; what it printed is in the message.
    """
    with tempfile.TemporaryDirectory(prefix="livingai-gate-") as folder:
        report = Path(folder, "report.json")
        command = [
            sys.executable, "-m", "bench", "--tier", tier, "--mode", mode, "--repeat", "1",
            "--no-peer", "--no-probes", "--processes", "1", "--json", str(report),
            *(["--quick"] if quick else []),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise GateError(f"the benchmark failed in {tree}:\n{done.stdout}")
        results: list[dict[str, Any]] = json.loads(report.read_text())["results"]
    (figures,) = results[0]["runs"]
    return {role: figures[f"{role}_cpu_s"] * 1e3 / figures["saves"] for role in ROLES}


def measure_pairs(
    before: Path, tier: str, mode: Mode, pairs: int, quick: bool, log: Console
) -> list[Pair]:
    """So many pairs of a tier; who is first changes from one to the next."""
    found = []
    for number in range(pairs):
        with log.status(f"{tier}, {mode}, pair {number + 1} of {pairs}"):
            if number % 2:
                now = measure(ROOT, tier, mode, quick)
                found.append(Pair(measure(before, tier, mode, quick), now))
            else:
                then = measure(before, tier, mode, quick)
                found.append(Pair(then, measure(ROOT, tier, mode, quick)))
    return found


def too_slow(pairs: Sequence[Pair], limit: float) -> bool:
    """Whether this tree takes more than ``limit`` times the CPU: the median of the pairs."""
    return statistics.median(pair.ratio for pair in pairs) > limit


def report(console: Console, tier: str, pairs: Sequence[Pair]) -> None:
    """A table: each role's median before and now, and the ratio of all with its range."""
    table = Table(title=f"{tier}: CPU per save, ms", title_justify="left")
    for name in ("", "before", "now"):
        table.add_column(name, justify="right" if name else "left")
    for role in ROLES:
        sides = ([p.before[role] for p in pairs], [p.now[role] for p in pairs])
        table.add_row(role, *(f"{statistics.median(side):.3f}" for side in sides))
    sums = ([sum(p.before.values()) for p in pairs], [sum(p.now.values()) for p in pairs])
    table.add_row("all", *(f"{statistics.median(side):.3f}" for side in sums))
    console.print(table)
    ratios = sorted(pair.ratio for pair in pairs)
    console.print(
        f"{tier}: {statistics.median(ratios):.2f} times the baseline's CPU "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} pairs)"
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    add = parser.add_argument
    add("--against", metavar="COMMIT", help="(that of bench/baseline.txt)")
    add(
        "--tier",
        action="append",
        choices=tuple(TIERS),
        help="production and single; may be repeated",
    )
    add("--mode", choices=MODES, help="(the first that a tier has: closed, or paced)")
    add("--pairs", type=int, default=5, metavar="N", help="of each tier (5)")
    add("--limit", type=float, default=1.1, help="the most, as a ratio (1.1)")
    add("--quick", action="store_true", help="a fifth of the steps")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether this tree has become slower."""
    options = _arguments(arguments)
    console, log = Console(), Console(stderr=True)
    worse = []
    try:
        commit = options.against or baseline()
        console.print(f"against commit {commit[:12]}")
        with tempfile.TemporaryDirectory(prefix="livingai-gate-") as folder:
            tree = Path(folder, "before")
            check_out(commit, tree)
            for tier in dict.fromkeys(options.tier or ("production", "single")):
                mode = mode_of(tier, options.mode)
                pairs = measure_pairs(tree, tier, mode, max(1, options.pairs), options.quick, log)
                report(console, tier, pairs)
                if too_slow(pairs, options.limit):
                    worse.append(tier)
    except GateError as error:
        print(f"bench.gate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        log.print("stopped")
        return 130
    for tier in worse:
        console.print(f"[red]{tier}: more than {options.limit:g} times the baseline's CPU[/red]")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
