"""What two statuses of a service say of the time between them."""

from __future__ import annotations

from dataclasses import replace

from livingai.inspection.rates import Rates
from livingai.protocol.status import ServiceFlow, ServiceStatus

BEFORE = ServiceStatus(
    started_at=5.0, outcomes={"met": 100, "late": 10, "fenced": 1, "quarantined": 0},
    flow=ServiceFlow(queued=7, commits=20, raw_bytes=1000, stored_bytes=100),
)  # fmt: skip
NOW = ServiceStatus(
    started_at=5.0, outcomes={"met": 140, "late": 20, "fenced": 3, "quarantined": 2},
    flow=ServiceFlow(3, 0.5, 99, commits=24, raw_bytes=5000, stored_bytes=300),
)  # fmt: skip


def test_counts_become_rates() -> None:
    found = Rates.between(BEFORE, NOW, 2.0)
    # 54 have ended, and 4 fewer wait: 50 came.
    assert (found.saves, found.met, found.late, found.other) == (25.0, 20.0, 5.0, 2.0)
    assert (found.commits, found.raw_bytes, found.stored_bytes) == (2.0, 2000.0, 100.0)
    assert (found.queued, found.oldest_s, found.unsynced_bytes) == (3, 0.5, 99)


def test_another_dispatcher_has_counted_from_nothing() -> None:
    found = Rates.between(BEFORE, replace(NOW, started_at=6.0), 1.0)
    assert (found.met, found.commits, found.raw_bytes) == (140.0, 24.0, 5000.0)


def test_nothing_is_negative() -> None:
    found = Rates.between(NOW, BEFORE, 1.0)
    assert min(found.saves, found.met, found.late, found.other, found.commits) == 0.0
    assert Rates.between(NOW, NOW, 0.0).saves == 0.0, "and nothing is divided by nothing"


def test_a_service_of_an_earlier_version_says_less() -> None:
    assert Rates.between(ServiceStatus(), ServiceStatus(), 1.0).to_json()["saves"] == 0.0
