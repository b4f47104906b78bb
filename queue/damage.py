"""What is damaged or missing in a journal, as the records that are found show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from livingai.queue.cursor import drained_lsn
from livingai.queue.layout import Kind, position
from livingai.queue.quarantine import LOST
from livingai.queue.record import RecordHeader, read_outcome
from livingai.queue.segment import SegmentMap, parse_segment_header
from livingai.queue.walk import has_room, intact_records


@dataclass(frozen=True, slots=True)
class Damage:
    """Records ``first_lsn`` to ``last_lsn`` (none, if that is smaller) are damaged or missing.
    ``position`` and ``length`` (in bytes, 0 where the place itself is gone) say where they should
    be; ``header`` is the first one's, where it survived."""

    position: int
    length: int
    header: RecordHeader | None
    reason: str
    first_lsn: int
    last_lsn: int

    @property
    def count(self) -> int:
        """How many records."""
        return max(0, self.last_lsn - self.first_lsn + 1)

    def about(self) -> dict[str, Any]:
        """What its file in the quarantine says of it."""
        about: dict[str, Any] = {"reason": self.reason, "damaged": True}
        if self.count:
            about[LOST] = [self.first_lsn, self.last_lsn]
        return about


class DamageLog:
    """Notes each thing once."""

    def __init__(self, directory: str, journal_id: int, lsn: int, *, believe: bool) -> None:
        """``believe``: the cursor was true, so records up to it are terminal."""
        self._directory = directory
        self._journal_id = journal_id
        self._believe = believe
        #: The last record that was found, and the last one that was noted as missing.
        self.lsn = lsn
        self._noted = 0
        self._said: set[str] = set()
        self.found: list[Damage] = []

    def note(
        self,
        at: int,
        missing: int,
        length: int = 0,
        header: RecordHeader | None = None,
        *,
        cut: bool = False,
    ) -> None:
        """The next ``missing`` records are not where they should be; ``cut``: their file was cut
        short there."""
        first, last = max(self.lsn, self._noted) + 1, self.lsn + missing
        if last < first:
            return
        drained = self._drained()
        if drained is None and not (length or cut):
            return  # only what has left its bytes, or was cut off, is damaged for sure
        self._noted = last
        first = max(first, (drained or 0) + 1)
        if last < first:
            return
        if header is not None and not first <= header.lsn <= last:
            header = None
        what = "damaged" if length else "damaged or missing"
        if drained is None:
            what += ", unless they were stored before"
        reason = f"{_records(first, last)} {what}"
        self.found.append(Damage(at, length, header, reason, first, last))

    def say(self, at: int, reason: str) -> None:
        """Something is wrong, and it cannot be found out which records that concerns."""
        if reason not in self._said:
            self._said.add(reason)
            self.found.append(Damage(at, 0, None, reason, self.lsn + 1, self.lsn))

    def judge(self, segment: SegmentMap) -> None:
        """Note what is wrong with a segment in which no record fits its name."""
        number = segment.number
        header = parse_segment_header(segment.view)
        if header is not None and header.journal_id != self._journal_id:
            self.say(
                position(number, 0), f"segment {number} is of journal {header.journal_id:016x}"
            )
            return
        if header is not None and header.number == number:
            return  # empty; behind its header may lie what an earlier life of the file has left
        drained = self._drained() or 0
        strays = [
            (record, at)
            for record, at in intact_records(segment, self._journal_id, None)
            if record.kind == Kind.WRITE
            and record.lsn > drained
            and read_outcome(segment.view, at, record.lsn) is None
        ]
        if not strays:
            return  # its owner died while it gave the file another number
        (first, start), (last, end) = strays[0], strays[-1]
        length = end + last.length - start
        reason = (
            f"{_records(first.lsn, last.lsn)} of segment {first.segment}, and the file has the "
            f"name of segment {number}"
        )
        known = has_room(last.lsn - first.lsn, length) and first.lsn > max(self.lsn, self._noted)
        if known:
            self._noted = last.lsn
        ends = (first.lsn, last.lsn) if known else (self.lsn + 1, self.lsn)
        self.found.append(Damage(position(number, start), length, first, reason, *ends))

    def _drained(self) -> int | None:
        return drained_lsn(self._directory, self._journal_id) if self._believe else None


def _records(first: int, last: int) -> str:
    return f"record {last} is" if first == last else f"records {first} to {last} are"
