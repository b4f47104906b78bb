"""Everything that ``livingai check`` can find: what it means, and what ``--repair`` does about it.

A finding says what became of accepted records by it: nothing (``NONE``), they are stored later or
read more slowly (``LATE``), or they may be lost (``LOST``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How bad a finding is."""

    #: Records, or what was promised about them, may be lost.
    ERROR = "error"
    #: Nothing is lost.
    NOTICE = "notice"


class Loss(StrEnum):
    """What became of accepted records by it."""

    NONE = "none"
    LATE = "late"
    LOST = "lost"


class Code(StrEnum):
    """The name of a finding, for programs."""

    # around the journals
    ODD_FILE = "odd-file"
    SERVICE_STATE = "service-state"
    LEFTOVER = "leftover"
    NO_JOURNALS = "no-journals"
    NO_QUARANTINE = "no-quarantine"
    NO_JOURNAL = "not-a-journal"
    QUARANTINE_DAMAGED = "quarantine-damaged"
    QUARANTINED = "quarantined"
    MOVED_ASIDE = "moved-aside"
    # the files of a journal
    ODD_LOCK = "odd-lock"
    JOURNAL_UNREADABLE = "journal-unreadable"
    NEWER_FORMAT = "newer-format"
    CONTROL_DAMAGED = "control-damaged"
    CURSOR_MISSING = "cursor-missing"
    CURSOR_ODD = "cursor-odd"
    CURSOR_SLOT = "cursor-slot"
    CURSOR_WRONG = "cursor-wrong"
    INDEX_MISSING = "index-missing"
    INDEX_DAMAGED = "index-damaged"
    INDEX_WRONG = "index-wrong"
    INDEX_STALE = "index-stale"
    SEGMENT_ODD = "segment-odd"
    SEGMENT_FOREIGN = "segment-foreign"
    SEGMENT_EMPTY = "segment-empty"
    SEGMENT_HEADER = "segment-header"
    SEGMENT_UNUSED = "segment-unused"
    # records
    RECORD_MISSING = "record-missing"
    RECORD_ASIDE = "record-set-aside"
    RECORD_UNKNOWN = "record-unknown"
    RECORD_MISSING_STORED = "record-missing-stored"
    RECORD_PASSED = "record-passed"
    OUTCOME_DAMAGED = "outcome-damaged"
    PATCH_BASE = "patch-without-base"
    SYNCED_MISSING = "synced-missing"
    # the store
    EXECUTION_DAMAGED = "execution-damaged"
    EXECUTION_BEHIND = "execution-behind"
    EXECUTION_COUNTS = "execution-counts"
    NODE_DAMAGED = "node-damaged"
    STATE_DAMAGED = "state-damaged"
    STATE_BASE = "state-without-base"
    STATE_TOO_LARGE = "state-too-large"
    NOT_STORED = "not-stored"


@dataclass(frozen=True, slots=True)
class FindingKind:
    """What a finding means, and what ``--repair`` does about it."""

    severity: Severity
    loss: Loss
    means: str
    repair: str


def _error(loss: Loss, means: str, repair: str) -> FindingKind:
    return FindingKind(Severity.ERROR, loss, means, repair)


def _notice(loss: Loss, means: str, repair: str) -> FindingKind:
    return FindingKind(Severity.NOTICE, loss, means, repair)


_LEAVES: Final = "nothing"
_COPY: Final = (
    "nothing: restore the database from a copy, or remove the execution with `livingai delete`"
)
_ANEW: Final = "moved to quarantine/, and made anew"

#: The table of all findings.
FINDINGS: Final[dict[Code, FindingKind]] = {
    Code.ODD_FILE: _error(
        Loss.LATE, "something else has the name of a file of the service", "moved to quarantine/"
    ),
    Code.SERVICE_STATE: _notice(Loss.NONE, "the service's shared page is not there", _LEAVES),
    Code.LEFTOVER: _notice(
        Loss.NONE,
        "a crash left it half written or half removed",
        "moved to quarantine/ after a minute; what is left of journals the next service removes",
    ),
    Code.NO_JOURNALS: _error(
        Loss.LOST, "the folder of the journals is gone, with what waited there", "made anew, empty"
    ),
    Code.NO_QUARANTINE: _error(
        Loss.LOST, "the quarantine is gone, with the records in it", "made anew, empty"
    ),
    Code.NO_JOURNAL: _notice(Loss.NONE, "it is no journal", _LEAVES),
    Code.QUARANTINE_DAMAGED: _error(
        Loss.LOST, "a record that was set aside cannot be read", "renamed, so it is not listed"
    ),
    Code.QUARANTINED: _notice(
        Loss.LATE, "records are set aside", "nothing: `livingai requeue` queues them again"
    ),
    Code.MOVED_ASIDE: _notice(Loss.NONE, "something was moved here, out of the way", _LEAVES),
    Code.ODD_LOCK: _error(
        Loss.LATE,
        "it cannot be known whether the journal's owner lives, so its end is not read",
        "moved to quarantine/ if the journal is of an earlier boot of the machine",
    ),
    Code.JOURNAL_UNREADABLE: _error(
        Loss.LATE, "the journal cannot be read", "renamed, if its segments say which one it is"
    ),
    Code.NEWER_FORMAT: _error(
        Loss.LATE, "a newer livingai wrote the journal", "nothing: upgrade livingai"
    ),
    Code.CONTROL_DAMAGED: _error(
        Loss.NONE, "the journal is read by scanning it", f"{_ANEW}, with the index"
    ),
    Code.CURSOR_MISSING: _error(
        Loss.NONE, "the journal is read from its oldest record on", "made anew"
    ),
    Code.CURSOR_ODD: _error(Loss.NONE, "the journal is read from its oldest record on", _ANEW),
    Code.CURSOR_SLOT: _notice(Loss.NONE, "an older cursor counts", _ANEW),
    Code.CURSOR_WRONG: _error(
        Loss.NONE, "the cursor is not true: the journal is read from its oldest record on", _ANEW
    ),
    Code.INDEX_MISSING: _error(Loss.NONE, "what is in the journal is read from the store", _ANEW),
    Code.INDEX_DAMAGED: _error(Loss.NONE, "what is in the journal is read from the store", _ANEW),
    Code.INDEX_WRONG: _error(Loss.NONE, "the index leads to another record or an older one", _ANEW),
    Code.INDEX_STALE: _notice(Loss.NONE, "the index leads to where there is no record", _LEAVES),
    Code.SEGMENT_ODD: _error(
        Loss.LOST, "something else has the name of a segment", "moved to quarantine/"
    ),
    Code.SEGMENT_FOREIGN: _error(
        Loss.LATE,
        "a segment of another journal is here, where its records are not read",
        "moved to its journal if that is there and misses it, else to quarantine/; left if records "
        "wait in it that are nowhere else",
    ),
    Code.SEGMENT_EMPTY: _notice(Loss.NONE, "left from a rotation that broke off", _LEAVES),
    Code.SEGMENT_HEADER: _error(
        Loss.NONE, "the segment's records are read without its header", "nothing, it needs nothing"
    ),
    Code.SEGMENT_UNUSED: _notice(Loss.NONE, "the segment holds no record", _LEAVES),
    Code.RECORD_MISSING: _error(
        Loss.LOST,
        "accepted records are damaged or gone, and were not stored",
        "what is left of them is copied to quarantine/; the service stores what follows",
    ),
    Code.RECORD_ASIDE: _notice(
        Loss.LOST, "accepted records are lost; what is left of them is in quarantine/", _LEAVES
    ),
    Code.RECORD_UNKNOWN: _error(
        Loss.LOST,
        "records are not there, and without the cursor nothing tells whether they were stored "
        "before their segments were used again, or were deleted with them",
        "the new cursor passes them",
    ),
    Code.RECORD_MISSING_STORED: _notice(
        Loss.NONE, "records are damaged or gone that had their outcome", _LEAVES
    ),
    Code.RECORD_PASSED: _error(
        Loss.LATE, "the service has passed a record without storing it",
        "the cursor is moved to quarantine/ and made anew, so the service stores the record",
    ),
    Code.OUTCOME_DAMAGED: _error(
        Loss.LATE, "the record's outcome is not known", "nothing: the service stores it again"
    ),
    Code.PATCH_BASE: _error(
        Loss.LOST,
        "a state cannot be rebuilt: what it builds on is damaged or gone",
        "nothing: the service stores it if the store has the base, else it sets it aside",
    ),
    Code.SYNCED_MISSING: _error(
        Loss.LOST, "a record that was safe from power loss is gone", _LEAVES
    ),
    Code.EXECUTION_DAMAGED: _error(Loss.LOST, "the store's line of an execution is damaged", _COPY),
    Code.EXECUTION_BEHIND: _error(
        Loss.LATE, "an execution's line, or its owners, are older than its rows", _COPY
    ),
    Code.EXECUTION_COUNTS: _notice(
        Loss.NONE, "an execution's line has other counts than its rows", _LEAVES
    ),
    Code.NODE_DAMAGED: _error(Loss.LOST, "rows of an execution are damaged", _COPY),
    Code.STATE_DAMAGED: _error(Loss.LOST, "a stored state does not decode to what it was", _COPY),
    Code.STATE_BASE: _error(Loss.LOST, "what a stored state builds on is not there", _COPY),
    Code.STATE_TOO_LARGE: _notice(Loss.NONE, "a state is too large to be looked at", _LEAVES),
    Code.NOT_STORED: _error(
        Loss.LOST,
        "the journal says that a record is stored, and the store does not have it",
        "stored again from the journal, unless others have claimed the execution in the store",
    ),
}  # fmt: skip
