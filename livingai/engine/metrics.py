"""An engine's own metrics, in its process: a snapshot that costs nothing until it is asked for.

What an exporter says of a whole state directory, and what survives this process, is in
:mod:`livingai.queue.tally` instead; ``docs/METRICS.md`` has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from livingai.outcome import Durability, OutcomeStatus


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Latencies from acceptance to outcome: ``counts[i]`` of them do not exceed ``bounds_s[i]`` and
    exceed the bound before; the last count is of those above all bounds. ``sum_s`` is their sum,
    in seconds as the bounds are."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """What an engine has done since it was made (in a forked child: since the fork); see
    :attr:`livingai.CheckpointEngine.metrics`.

    ``saves`` counts accepted writes, ``pending`` those without an outcome, and ``outcomes`` the
    others by their outcome and the level that they reached with it. ``state_bytes`` and
    ``node_bytes`` are what the accepted writes had of states and of nodes and tags, encoded and not
    compressed. ``backpressure_s`` is how long saves have waited for room in a full journal.
    Quantiles are of all outcomes, off by 5 % at most, 0.0 before the first.
    """

    saves: int
    pending: int
    outcomes: Mapping[tuple[OutcomeStatus, Durability], int]
    latency: LatencyHistogram
    p50_s: float
    p95_s: float
    p99_s: float
    state_bytes: int
    node_bytes: int
    backpressure_s: float
