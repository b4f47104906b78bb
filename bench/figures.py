"""From samples to figures, and from the figures of several runs to their median and range."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.agents import Seen

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


def over_runs(runs: list[Figures]) -> dict[str, Spread]:
    """Median and range of each figure."""
    return {
        name: Spread(
            statistics.median(run[name] for run in runs),
            min(run[name] for run in runs),
            max(run[name] for run in runs),
        )
        for name in runs[0]
    }


def figures_of(seen: list[Seen], start_ns: int, budget_ms: float) -> Figures:
    """The figures of one run, over all of its processes. Times in ms unless named otherwise.
    Those of the probes are missing where there were none."""
    held = [ns / 1e6 for each in seen for ns in each.held_ns]
    bare = [ns / 1e6 for each in seen for ns in each.bare_ns]
    lag = [ns / 1e6 for each in seen for ns in each.lag_ns]
    idle = [ns / 1e6 for each in seen for ns in each.idle_lag_ns]
    latency = [ms for each in seen for ms in each.latency_ms]
    ready = [ms for each in seen for ms in each.ready_latency_ms]
    outcomes = sum((each.outcomes for each in seen), Counter[str]())
    figures = {
        "saves": len(held),
        "held_p50_ms": quantile(held, 0.5),
        "held_p99_ms": quantile(held, 0.99),
        "held_max_ms": max(held),
        "in_time_share": sum(ms <= budget_ms for ms in latency) / len(latency),
        "ready_in_time_share": sum(ms <= budget_ms for ms in ready) / len(ready),
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
    if any(each.accepted_ns for each in seen):  # a burst
        accepted_s = (max(each.accepted_ns for each in seen) - start_ns) / 1e9
        figures["accepted_per_s"] = len(held) / accepted_s
        figures["stored_per_s"] = len(held) / figures["total_s"]
    if bare:
        figures["bare_p50_ms"] = quantile(bare, 0.5)
        figures["held_to_bare"] = figures["held_p50_ms"] / figures["bare_p50_ms"]
        figures["probe_s"] = sum(bare) / 1000
    if idle:
        figures["lag_p99_ms"] = quantile(lag, 0.99)
        figures["lag_max_ms"] = max(lag, default=0.0)
        figures["idle_lag_p99_ms"] = quantile(idle, 0.99)
    return figures
