"""A run of a case: its sides in turns, so that what the machine does besides meets all alike."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figures, Spread, over_runs, quantile
from bench.frameworks.cases import OURS, Case
from bench.frameworks.side import Side

#: Figures of each side, by its name.
Run = dict[str, Figures]


def run_case(case: Case, directory: str | None = None, *, backwards: bool = False) -> Run:
    """Measure all sides of a case once; ``backwards`` lets the last one begin.

    Figures: ``held_p50_us``, ``held_p90_us``, ``cpu_us`` (per step, of all processes),
    ``program_cpu_us`` and the like (of a role), and ``stored_bytes``; those of livingai also as
    ratios to each other side's.

    Raises:
        SideError: a side has failed.
    """
    names = [OURS, *case.others]
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="livingai-bench-", dir=directory)
        )
        sides = []
        for number, name in enumerate(names):
            side = Side(case, name, Path(folder, f"{number}"))
            stack.callback(side.close)
            sides.append(side)
        held = _in_turns(case, sides[::-1] if backwards else sides)
        measured = {side.name: side.end() for side in sides}
    run: Run = {}
    for name in names:
        cpu_s, stored = measured[name]
        run[name] = {
            "held_p50_us": quantile(held[name], 0.5) / 1e3,
            "held_p90_us": quantile(held[name], 0.9) / 1e3,
            "cpu_us": sum(cpu_s.values()) * 1e6 / len(held[name]),
            "stored_bytes": stored,
        }
        for role, seconds in cpu_s.items():
            run[name][f"{role}_cpu_us"] = seconds * 1e6 / len(held[name])
    for name in case.others:
        for figure in ("held_p50_us", "cpu_us", "stored_bytes"):
            if run[name][figure]:
                run[OURS][f"{figure} to {name}"] = run[OURS][figure] / run[name][figure]
    return run


def _in_turns(case: Case, sides: Sequence[Side]) -> dict[str, list[int]]:
    """Let the sides take all steps, a few each at a time; how long those after the warm-up held
    their callers, in ns."""
    held: dict[str, list[int]] = {side.name: [] for side in sides}
    for side in sides:
        side.take(0, case.warm_up)
    for side in sides:
        side.begin()
    for first in range(case.warm_up, case.steps, case.turn):
        for side in sides:
            held[side.name] += side.take(first, min(case.turn, case.steps - first))
    return held


def summary_of(runs: Sequence[Run]) -> dict[str, dict[str, Spread]]:
    """Median and range of each side's figures."""
    return {name: over_runs([run[name] for run in runs]) for name in runs[0]}
