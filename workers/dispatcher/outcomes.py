"""Outcomes: every record gets exactly one, in its journal, before its agent hears of it.

Rules:

* The outcome word is written after the store has committed (or refused) the record, and never
  twice; the cursor moves after the outcome words; messages to agents come after that.
* What is quarantined is written to its file first. Where that cannot be done it is tried again, and
  the record (or the journal that has the damage) waits.
"""

from __future__ import annotations

import asyncio
import logging
import time

from livingai.errors import CorruptRecordError
from livingai.failpoint import failpoint
from livingai.outcome import STATUS_BY_CODE, STATUS_CODES, OutcomeStatus
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.patch import is_patch, standing_bytes, with_state
from livingai.queue.quarantine import set_aside
from livingai.queue.record import read_record
from livingai.queue.tail import Damage
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.ports import OutcomePort, OwnerPort
from livingai.workers.dispatcher.watch import Watch

_log = logging.getLogger("livingai.service")
#: Seconds between attempts to write to the quarantine.
_RETRY_S = 1.0

#: What is counted stays a number that fits into a message.
_MOST = (1 << 63) - 1

_MET = STATUS_CODES[OutcomeStatus.MET]
_LATE = STATUS_CODES[OutcomeStatus.LATE]
_QUARANTINED = STATUS_CODES[OutcomeStatus.QUARANTINED]


class Outcomes:
    """Writes outcomes, moves cursors and sets aside what is quarantined, by the rules above."""

    def __init__(
        self, quarantine: str, intake: Intake, owners: OwnerPort, port: OutcomePort
    ) -> None:
        """``quarantine``: the folder for records that cannot be stored."""
        self._quarantine = quarantine
        self._intake = intake
        self._owners = owners
        self._port = port
        #: Outcomes since the service began.
        self.counts = dict.fromkeys(OutcomeStatus, 0)
        self.watch = Watch()
        self._untold: dict[Feed, list[tuple[int, int]]] = {}
        self._reasons: dict[Feed, dict[int, str]] = {}
        #: Why the quarantine takes nothing now; "" while it does.
        self._trouble = ""
        self._retry_at = 0.0

    def known(self, item: Item) -> bool:
        """Whether an earlier life of the service has settled the record; the cursor may move."""
        if (outcome := item.feed.outcome_of(item)) is None:
            return False
        item.done, item.outcome = True, outcome
        item.feed.skip()
        self._untold.setdefault(item.feed, [])
        return True

    def settle(self, item: Item, status: int, when_ns: int, reason: str = "") -> None:
        """Give a record its terminal outcome; :meth:`tell` sends it to the owner."""
        header = item.header
        if item.feed.same_boot:
            latency_us = max(0, when_ns - header.mono_ns) // 1000
        else:  # monotonic time has started anew since
            latency_us = max(0, time.time_ns() - header.wall_ns) // 1000
        if status == _MET and latency_us > header.budget_us:
            status = _LATE
        failpoint("dispatcher.before_outcome")
        word = item.feed.settle(item, status, latency_us)
        failpoint("dispatcher.after_outcome")
        self.counts[STATUS_BY_CODE[status]] += 1
        if self.watch.active:
            self.watch.note(item, status, latency_us, reason)
        self._untold.setdefault(item.feed, []).append((header.lsn, word))
        if reason:
            self._reasons.setdefault(item.feed, {})[header.lsn] = reason
        self._port.settled(item, stored=status in (_MET, _LATE))

    def tell(self) -> None:
        """Move cursors, then send the outcomes to the agents."""
        if not self._untold:
            return
        untold, self._untold = self._untold, {}
        for feed in untold:  # counted together, so that the tally is written once
            feed.pass_done()
        for feed, outcomes in untold.items():
            if not feed.advance():
                self._untold[feed] = []
            failpoint("dispatcher.after_cursor")
            if outcomes:
                self._owners.tell(feed, outcomes, self._reasons.pop(feed, {}))
                failpoint("dispatcher.after_tell")

    # -- quarantine --

    def set_aside(self, item: Item, reason: str) -> None:
        """Quarantine a record: its bytes go to a file, then it is terminal."""
        header = item.header
        try:
            data = _standing(item) or _bytes_at(item.feed, item.at, header.length)
            written = self._write(item.feed, item.at, data, reason=reason, lsn=header.lsn)
        except OSError as error:  # no descriptors; what is not read is not set aside
            _log.warning(
                "record %d of %s cannot be read now: %s", header.lsn, item.feed.path, error
            )
            written = False
        if not written:
            asyncio.get_running_loop().call_later(_RETRY_S, self.set_aside, item, reason)
            return
        _log.error("record %d of %s is quarantined: %s", header.lsn, item.feed.path, reason)
        self.settle(item, _QUARANTINED, time.monotonic_ns(), reason)
        self._port.kick()

    def set_damage_aside(self) -> None:
        """Quarantine damaged places of the journals, so that they are reported and kept."""
        if time.monotonic() < self._retry_at:
            return
        for feed in self._intake.feeds.values():
            while feed.damage:
                damage = feed.damage[0]
                data = _bytes_at(feed, damage.position, damage.length)
                if not self._write(feed, damage.position, data, **damage.about()):
                    self._retry_at = time.monotonic() + _RETRY_S
                    return
                _log.error("%s: %s", feed.path, damage.reason)
                self._settle_damaged(feed, damage)
                del feed.damage[0]

    def _settle_damaged(self, feed: Feed, damage: Damage) -> None:
        """The owner gets a message, if it is alive; there is no record to write an outcome into.
        The message has a range: its numbers come from a file, and only the owner knows which of
        them it waits for."""
        total = self.counts[OutcomeStatus.QUARANTINED] + damage.count
        self.counts[OutcomeStatus.QUARANTINED] = min(total, _MOST)
        if damage.count:
            feed.lost.append((damage.first_lsn, damage.last_lsn, damage.reason))
        self._owners.tell_lost(feed)
        self._port.kick()

    def _write(self, feed: Feed, position: int, data: bytes, **about: object) -> bool:
        folder = self._quarantine
        try:
            set_aside(folder, feed.journal_id, position, data, **about)
        except OSError as error:
            why = error.strerror or str(error)  # without the name of a temporary file
            if why != self._trouble:  # once, not for every record and every attempt
                self._trouble = why
                _log.error("cannot write to %s, trying again: %s", folder, why)
            return False
        self._trouble = ""
        return True


def _standing(item: Item) -> bytes | None:
    """The bytes of a record that is a patch, as if its state had been written whole: what is set
    aside must not need a base that will be gone. None: it is none, or cannot be rebuilt. Raises
    OSError."""
    if not is_patch(item.header):
        return None
    segments = item.feed.tail.segments
    segment = segments.get(segment_of(item.at))
    try:
        if segment is not None:
            return standing_bytes(
                with_state(segments, read_record(segment.view, offset_of(item.at)))
            )
    except CorruptRecordError as error:
        _log.error("record %d of %s: %s", item.header.lsn, item.feed.path, error)
    return None


def _bytes_at(feed: Feed, position: int, length: int) -> bytes:
    """The bytes at a place of a journal, unchecked; empty where the place is gone."""
    segment = feed.tail.segments.get(segment_of(position))
    start = offset_of(position)
    return bytes(segment.view[start : start + length]) if segment else b""
