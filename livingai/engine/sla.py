"""Service level of an engine: outcome counts and latency quantiles of every write."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from livingai.engine.metrics import EngineMetrics, LatencyHistogram
from livingai.outcome import Durability, Outcome, OutcomeStatus, Receipt
from livingai.queue.counters import LATENCY

#: Buckets grow by 5 %, from 1 µs to about 20 minutes; a quantile is off by at most that.
_GROWTH: Final = math.log(1.05)
_BUCKETS: Final = 430
_BOUNDS_S: Final = tuple(bound / 1e6 for bound in LATENCY.bounds)


class Histogram:
    """Counts of latencies in geometric buckets of 5 %. Not thread-safe."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.total = 0

    def add(self, latency_ms: float) -> None:
        """Count one latency."""
        latency_us = latency_ms * 1000
        bucket = int(math.log(latency_us) / _GROWTH) if latency_us > 1 else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.total += 1

    def quantile_ms(self, q: float) -> float:
        """The latency in ms below which a share ``q`` of all lies; 0.0 before the first."""
        rank = q * self.total
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= rank:
                return math.exp((bucket + 0.5) * _GROWTH) / 1000
        return 0.0


@dataclass(frozen=True, slots=True)
class Sla:
    """A summary of an engine's writes; see :meth:`livingai.CheckpointEngine.sla`.

    Latencies are from acceptance to commit in the store, in milliseconds, over all writes with an
    outcome. ``queue_age_ms`` is the age of the oldest write without one, ``unsynced_bytes`` what a
    power loss could take at level JOURNAL, ``service`` how the connection to the service is,
    ``trouble`` why the store takes no writes now ("" while it does).
    """

    saves: int
    pending: int
    outcomes: dict[str, int] = field(default_factory=dict)
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    queue_age_ms: float = 0.0
    unsynced_bytes: int = 0
    service: str = "not started"
    trouble: str = ""

    @property
    def met_share(self) -> float:
        """Share of the writes with an outcome that were stored within budget; 1.0 before any."""
        total = sum(self.outcomes.values())
        return self.outcomes.get(OutcomeStatus.MET, 0) / total if total else 1.0


class SlaRecorder:
    """Collects the outcomes of one engine. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histogram = Histogram()
        self._counts: Counter[tuple[OutcomeStatus, Durability]] = Counter()
        self._places = [0] * (len(LATENCY.bounds) + 1)
        self._latency_ms = 0.0
        self._backpressure_s = 0.0
        self.saves = self._state_bytes = self._node_bytes = 0

    def __call__(self, _receipt: Receipt, outcome: Outcome, /) -> None:
        """Count an outcome; an observer (:mod:`.observers`)."""
        latency_ms = outcome.latency_ms
        place = bisect_left(LATENCY.bounds, latency_ms * 1000)
        with self._lock:
            self._counts[outcome.status, outcome.level] += 1
            self._histogram.add(latency_ms)
            self._places[place] += 1
            self._latency_ms += latency_ms

    def accepted(self, state_bytes: int, node_bytes: int) -> None:
        """A write with so many bytes was accepted. Called with the lock of the process's handle."""
        self.saves += 1
        self._state_bytes += state_bytes
        self._node_bytes += node_bytes

    def waited(self, seconds: float) -> None:
        """A save has waited so long for room in the journal."""
        with self._lock:
            self._backpressure_s += seconds

    def metrics(self, pending: int) -> EngineMetrics:
        """All that was collected, with the number of writes that have no outcome yet."""
        with self._lock:
            quantile = self._histogram.quantile_ms
            latency = LatencyHistogram(_BOUNDS_S, tuple(self._places), self._latency_ms / 1000)
            return EngineMetrics(
                self.saves, pending, dict(self._counts), latency, quantile(0.5) / 1000,
                quantile(0.95) / 1000, quantile(0.99) / 1000, self._state_bytes, self._node_bytes,
                self._backpressure_s,
            )  # fmt: skip

    def summary(
        self,
        *,
        pending: int,
        queue_age_ms: float = 0.0,
        unsynced_bytes: int = 0,
        service: str = "",
        trouble: str = "",
    ) -> Sla:
        """The summary so far."""
        with self._lock:
            quantile = self._histogram.quantile_ms
            counts: Counter[str] = Counter()
            for (status, _), count in self._counts.items():
                counts[status.value] += count
            return Sla(
                self.saves, pending, dict(counts), quantile(0.5), quantile(0.95),
                quantile(0.99), queue_age_ms, unsynced_bytes, service, trouble,
            )  # fmt: skip
