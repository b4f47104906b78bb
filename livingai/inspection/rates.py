"""What a service did between two looks at its status."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from livingai.outcome import OutcomeStatus
from livingai.protocol.status import ServiceStatus

_MET, _LATE = str(OutcomeStatus.MET), str(OutcomeStatus.LATE)


@dataclass(frozen=True, slots=True)
class Rates:
    """Numbers a second, and what waits at the end of the interval."""

    #: Records that were accepted, that had each outcome, and batches that were committed; a second.
    saves: float
    met: float
    late: float
    #: Superseded, fenced and quarantined ones.
    other: float
    commits: float
    #: Bytes of states that were stored, and of what the store was given for them; a second.
    raw_bytes: float
    stored_bytes: float
    #: Records without an outcome, and the seconds since the oldest of them was accepted.
    queued: int
    oldest_s: float
    #: Bytes of records that are neither stored nor synced.
    unsynced_bytes: int

    @classmethod
    def between(cls, before: ServiceStatus, now: ServiceStatus, passed_s: float) -> Self:
        """The rates of an interval of ``passed_s`` seconds; of one service, or ``before`` counts as
        nothing: the dispatcher has counted from 0 since."""
        if before.started_at != now.started_at:
            before = ServiceStatus()
        passed_s = max(passed_s, 1e-3)
        ended = sum(now.outcomes.values()) - sum(before.outcomes.values())

        def rate(name: str) -> float:
            return max(0, now.outcomes.get(name, 0) - before.outcomes.get(name, 0)) / passed_s

        one, other = before.flow, now.flow
        met, late = rate(_MET), rate(_LATE)
        return cls(
            # Each record that was accepted has its outcome, or waits.
            saves=max(0, ended + other.queued - one.queued) / passed_s,
            met=met,
            late=late,
            other=max(0.0, ended / passed_s - met - late),
            commits=max(0, other.commits - one.commits) / passed_s,
            raw_bytes=max(0, other.raw_bytes - one.raw_bytes) / passed_s,
            stored_bytes=max(0, other.stored_bytes - one.stored_bytes) / passed_s,
            queued=other.queued,
            oldest_s=other.oldest_s,
            unsynced_bytes=other.unsynced_bytes,
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
