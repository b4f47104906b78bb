"""Service level of an engine: outcome counts and latency quantiles of every write."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from livingai.outcome import Outcome, OutcomeStatus, Receipt

#: Buckets grow by 5 %, from 1 µs to about 20 minutes; a quantile is off by at most that.
_GROWTH: Final = math.log(1.05)
_BUCKETS: Final = 430


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
        self._counts: Counter[str] = Counter()
        self.saves = 0

    def __call__(self, _receipt: Receipt, outcome: Outcome, /) -> None:
        """Count an outcome; an observer (:mod:`.observers`)."""
        with self._lock:
            self._counts[outcome.status.value] += 1
            self._histogram.add(outcome.latency_ms)

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
            return Sla(
                self.saves, pending, dict(self._counts), quantile(0.5), quantile(0.95),
                quantile(0.99), queue_age_ms, unsynced_bytes, service, trouble,
            )  # fmt: skip
