"""From samples to figures, and from the figures of several runs to their median and range."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.seen import Seen

Figures = dict[str, float]


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share ``q`` of all lies (nearest rank); 0.0 without any."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs."""

    median: float
    least: float
    most: float


def over_runs(runs: Sequence[Figures]) -> dict[str, Spread]:
    """Median and range of each figure, over the runs that have it."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, value in run.items():
            found.setdefault(name, []).append(value)
    return {
        name: Spread(statistics.median(values), min(values), max(values))
        for name, values in found.items()
    }


class Saved(NamedTuple):
    """One save with its outcome; ``stored_ns`` is when it was stored, or given up."""

    step: int
    began_ns: int
    held_ms: float
    waited_ms: float
    latency_ms: float

    @property
    def stored_ns(self) -> int:
        """When the outcome was there (CLOCK_MONOTONIC)."""
        return self.began_ns + int(self.latency_ms * 1e6)


def saves_of(seen: Sequence[Seen]) -> Iterator[Saved]:
    """The saves of all processes."""
    for each in seen:
        columns = (each.steps, each.began_ns, each.held_ns, each.waited_ms, each.latency_ms)
        for step, began_ns, held_ns, waited_ms, latency_ms in zip(*columns, strict=True):
            yield Saved(step, began_ns, held_ns / 1e6, waited_ms, latency_ms)


def share_within(values: Sequence[float], most: float) -> float:
    """The share of ``values`` that is not above ``most``; 0.0 without any."""
    return sum(value <= most for value in values) / len(values) if values else 0.0


def figures_of(seen: Sequence[Seen], start_ns: int, budget_ms: float) -> Figures:
    """The figures of one run, over all of its processes. Times in ms unless named otherwise.
    Those of the probes are missing where there were none."""
    saves = list(saves_of(seen))
    held = [save.held_ms for save in saves]
    latency = [save.latency_ms for save in saves]
    ready = [save.waited_ms + save.latency_ms for save in saves]
    outcomes = sum((each.outcomes for each in seen), Counter[str]())
    figures = {
        "saves": len(held),
        "held_p50_ms": quantile(held, 0.5),
        "held_p99_ms": quantile(held, 0.99),
        "held_max_ms": max(held),
        "in_time_share": share_within(latency, budget_ms),
        "ready_in_time_share": share_within(ready, budget_ms),
        "ready_p99_ms": quantile(ready, 0.99),
        "met": outcomes["met"],
        "late": outcomes["late"],
        "other_outcomes": outcomes.total() - outcomes["met"] - outcomes["late"],
        "total_s": (max(each.ended_ns for each in seen) - start_ns) / 1e9,
        "latency_p50_ms": quantile(latency, 0.5),
        "latency_p99_ms": quantile(latency, 0.99),
        "latency_max_ms": max(latency),
        "raw_bytes": sum(each.raw_bytes for each in seen),
        "agents_cpu_s": sum(each.cpu_s for each in seen),
    }
    figures["saves_per_s"] = len(held) / figures["total_s"]
    # The first save of each agent is whole and may start what is started at need.
    later = [save.latency_ms for save in saves if save.step]
    if later:
        figures["later_in_time_share"] = share_within(later, budget_ms)
    if any(each.accepted_ns for each in seen):  # a burst
        accepted_s = (max(each.accepted_ns for each in seen) - start_ns) / 1e9
        figures["accepted_per_s"] = len(held) / accepted_s
        figures["stored_per_s"] = len(held) / figures["total_s"]
    return figures | _probed(seen, figures["held_p50_ms"])


def _probed(seen: Sequence[Seen], held_p50_ms: float) -> Figures:
    """What the probes have measured."""
    bare = [ns / 1e6 for each in seen for ns in each.bare_ns]
    lag = [ns / 1e6 for each in seen for ns in each.lag_ns]
    idle = [ns / 1e6 for each in seen for ns in each.idle_lag_ns]
    figures: Figures = {}
    if bare:
        figures["bare_p50_ms"] = quantile(bare, 0.5)
        figures["held_to_bare"] = held_p50_ms / figures["bare_p50_ms"]
    if idle:
        figures["lag_p99_ms"] = quantile(lag, 0.99)
        figures["lag_max_ms"] = max(lag, default=0.0)
        figures["idle_lag_p99_ms"] = quantile(idle, 0.99)
    return figures


def outage_figures(seen: Sequence[Seen], begin_ns: int, end_ns: int) -> Figures:
    """What became of the saves that began while nothing was stored, between two points in time
    (CLOCK_MONOTONIC).

    ``drained_s`` is how long after the end the last save that began before it was stored."""
    before = [save for save in saves_of(seen) if save.began_ns < end_ns]
    during = [save.held_ms for save in before if save.began_ns >= begin_ns]
    stored_ns = max((save.stored_ns for save in before), default=end_ns)
    return {
        "outage_s": (end_ns - begin_ns) / 1e9,
        "outage_saves": len(during),
        "outage_held_p50_ms": quantile(during, 0.5),
        "outage_held_p99_ms": quantile(during, 0.99),
        "outage_held_max_ms": max(during, default=0.0),
        "drained_s": max(0, stored_ns - end_ns) / 1e9,
    }
