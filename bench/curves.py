"""What is drawn: how measurements are distributed, and how they go with steps and time."""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections.abc import Sequence
from typing import Final

from bench.figures import saves_of
from bench.seen import Seen

#: By name, values at points that are the same in every run.
Curves = dict[str, list[float]]

#: The shares of saves at which the quantiles of ``held_ms`` and ``stored_ms`` are taken.
SHARES: Final = tuple(number / 200 for number in range(201))
#: Points in time at which an outage is looked at.
MOMENTS: Final = 120


def quantiles(values: Sequence[float]) -> list[float]:
    """The values at :data:`SHARES` (nearest rank); of at least one value."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in SHARES]


def distributions(seen: Sequence[Seen]) -> Curves:
    """How long saves held their agents, and how long it took from when an agent was ready to save
    until its state was stored, in ms."""
    saves = list(saves_of(seen))
    return {
        "held_ms": quantiles([save.held_ms for save in saves]),
        "stored_ms": quantiles([save.waited_ms + save.latency_ms for save in saves]),
    }


def over_time(seen: Sequence[Seen], start_ns: int) -> Curves:
    """How many saves had been accepted and stored at :data:`MOMENTS` points in time, and those in
    seconds since ``start_ns``."""
    saves = list(saves_of(seen))
    accepted = sorted(save.began_ns + int(save.held_ms * 1e6) for save in saves)
    stored = sorted(save.stored_ns for save in saves)
    end_ns = max(stored[-1], accepted[-1])
    moments = [start_ns + (end_ns - start_ns) * number // MOMENTS for number in range(MOMENTS + 1)]
    return {
        "time_s": [(moment - start_ns) / 1e9 for moment in moments],
        "accepted": _counts(accepted, moments),
        "stored": _counts(stored, moments),
    }


def _counts(ordered: Sequence[int], moments: Sequence[int]) -> list[float]:
    return [float(bisect.bisect_right(ordered, moment)) for moment in moments]


def means(values: Sequence[float], parts: int) -> list[float]:
    """The mean of each of so many parts of ``values``, one after the other."""
    ends = [len(values) * number // parts for number in range(parts + 1)]
    pairs = itertools.pairwise(ends)
    return [statistics.fmean(values[begin:end]) for begin, end in pairs if end > begin]


def median_of(runs: Sequence[Curves]) -> Curves:
    """The median of each point, over the runs that have the curve."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {
        name: [
            float(f"{statistics.median(points):.5g}")
            for points in zip(*(run[name] for run in runs if name in run), strict=False)
        ]
        for name in names
    }
