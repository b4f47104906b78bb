"""The part of :mod:`livingai.inspection.check` that verifies one journal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from livingai.errors import CorruptRecordError, FormatVersionError, OddFileError
from livingai.inspection.foreign import foreign
from livingai.inspection.index import check_index
from livingai.inspection.oldest import oldest_cursor, unknown
from livingai.inspection.report import Code, Report
from livingai.queue.control import Control
from livingai.queue.cursor import Cursor, CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import (
    ALIGNMENT,
    OUTCOME_OFFSET,
    OUTCOME_WORD,
    RECORD_MAGIC,
    SEGMENT_HEADER_BYTES,
    Kind,
    position,
)
from livingai.queue.lock import boot_id
from livingai.queue.opening import what_is
from livingai.queue.owners import agent_alive
from livingai.queue.patch import is_patch, with_state
from livingai.queue.quarantine import lost_records
from livingai.queue.record import (
    RecordHeader,
    body_intact,
    parse_header,
    read_outcome,
    read_record,
)
from livingai.queue.segment import SegmentMap, segment_name, segment_numbers
from livingai.queue.segments import Segments


def check_journal(directory: StateDirectory, path: str, where: str, report: Report) -> None:
    """Verify one journal; one that is removed meanwhile is left out."""
    findings, counts = len(report.findings), report.counts.copy()
    try:
        alive = agent_alive(directory, path)
    except OddFileError as error:
        report.note(Code.ODD_LOCK, where, str(error))
        alive = True  # it cannot be known, and a living owner may still write
    report.counts["journals"] += 1
    report.counts["alive"] += alive
    try:
        with contextlib.closing(Control(path)) as control:
            lost = lost_records(directory.quarantine, control.journal_id)
            check = _JournalCheck(path, where, report, control, lost, alive=alive)
            with contextlib.closing(check):
                check.run()
    except FormatVersionError as error:
        report.note(Code.NEWER_FORMAT, where, str(error))
    except (CorruptRecordError, OSError) as error:
        report.note(Code.JOURNAL_UNREADABLE, where, str(error))
    if not os.path.isdir(path):
        del report.findings[findings:]
        report.counts = counts


class _JournalCheck:
    def __init__(
        self,
        path: str,
        where: str,
        report: Report,
        control: Control,
        lost: list[range],
        *,
        alive: bool,
    ) -> None:
        """``lost``: the numbers of records that are damaged and were set aside already."""
        self._path = path
        self._where = where
        self._report = report
        self._control = control
        self._alive = alive
        self._lost = lost
        self.segments = Segments(path)
        #: Where patches are rebuilt: that may close mappings.
        self._bases = Segments(path)
        #: The last lsn that the owner had published when the check began. It is read before the
        #: tail, so it is not newer. What a living owner wrote behind that is not judged.
        self._promised = control.tail_lsn
        self._stop = control.tail if alive and not control.damaged else None
        self._cursor = Cursor(0, 0)
        #: If the newest cursor cannot be read: records up to this one are not there, and may have
        #: been terminal.
        self._recycled = 0
        self._lsn = 0
        self._number = 0
        #: Largest published seq by execution and claim.
        self._newest: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        """Unmap everything."""
        self.segments.close()
        self._bases.close()

    def run(self) -> None:
        """All checks, in an order that tolerates a service and an owner at work: the published tail
        and the cursor are read before the records and their outcomes."""
        if self._control.damaged:
            what = "the control page is damaged; the journal is read by scanning it"
            self._note(Code.CONTROL_DAMAGED, what)
        self._check_cursor()
        if self._stop is not None:
            # If the owner has died since, the service reads on behind the tail: what it has settled
            # there is a record like any other.
            self._stop = max(self._stop, self._cursor.position)
        for number in segment_numbers(self._path):
            self._check_segment(number)
        self._check_end()
        check_index(self._path, self._where, self._report, self.segments, self._newest)

    def _note(self, code: Code, what: str) -> None:
        self._report.note(code, self._where, what)

    # -- cursor --

    def _check_cursor(self) -> None:
        try:
            file = CursorFile(self._path, self._control.journal_id)
        except FileNotFoundError:
            self._note_lost_cursor(Code.CURSOR_MISSING, "the cursor file is missing")
            return
        except OddFileError as error:
            self._note_lost_cursor(Code.CURSOR_ODD, str(error))
            return
        with contextlib.closing(file):
            self._cursor = file.read()
            damaged, empty = file.damaged(), not self._cursor.lsn and self._oldest() > 0
            if self._cursor != file.read():
                return  # it is being written now
            if damaged:
                what = "a cursor slot is damaged; the older one counts"
                self._note_lost_cursor(Code.CURSOR_SLOT, what)
            elif empty:
                what = "the cursor says that nothing is stored, and the first segment is not there"
                self._note_lost_cursor(Code.CURSOR_WRONG, what)

    def _note_lost_cursor(self, code: Code, what: str) -> None:
        self._note(code, what)
        self._recycled = self._oldest()
        if self._recycled > self._cursor.lsn:
            self._note(Code.RECORD_UNKNOWN, unknown(self._cursor.lsn + 1, self._recycled))

    def _oldest(self) -> int:
        return oldest_cursor(self.segments, self._control.journal_id).lsn

    def _cursor_lsn_now(self) -> int:
        with (
            contextlib.suppress(FileNotFoundError, OddFileError),
            contextlib.closing(CursorFile(self._path, self._control.journal_id)) as file,
        ):
            return max(file.read().lsn, self._recycled)
        return self._recycled

    # -- records --

    def _check_segment(self, number: int) -> None:
        segment = self.segments.get(number)
        path = os.path.join(self._path, segment_name(number))
        if segment is None:
            if odd := what_is(path):
                self._note(Code.SEGMENT_ODD, f"segment {number} is {odd}, no file of records")
            elif os.path.exists(path):
                what = f"segment {number} is empty, left from a rotation that broke off"
                self._note(Code.SEGMENT_EMPTY, what)
            return
        header = segment.header()
        found = list(self._walk(segment, number))
        if self._alive and not os.path.exists(path):
            return  # recycled meanwhile
        self._report.counts["segments"] += 1
        if not found and (other := foreign(segment, self._control.journal_id)) is not None:
            home = f"journals/{other.journal_id:016x}"
            what = f"segment {number} is of journal {other.journal_id:016x}: its place is {home}/"
            self._note(Code.SEGMENT_FOREIGN, what + segment_name(other.number))
            return
        if header is not None:
            self._expect(header.first_lsn - 1, together=number == self._number + 1)
        elif found:
            self._note(Code.SEGMENT_HEADER, f"the header of segment {number} is damaged")
        else:
            what = f"segment {number} is damaged, or its owner died while recycling it"
            self._note(Code.SEGMENT_UNUSED, what)
        self._number = number
        for record, offset in found:
            is_seal = record.kind == Kind.SEAL
            self._expect(record.lsn if is_seal else record.lsn - 1, together=True)
            self._lsn = max(self._lsn, record.lsn)
            if not is_seal:
                self._check_record(segment, record, offset)

    def _walk(self, segment: SegmentMap, number: int) -> Iterator[tuple[RecordHeader, int]]:
        """Every intact record of a segment, whatever lies between."""
        view, at, lsn = segment.view, SEGMENT_HEADER_BYTES, 0
        stop = position(number, len(view)) if self._stop is None else self._stop
        while at >= 0 and position(number, at) < stop:
            header = parse_header(view, at) if at % ALIGNMENT == 0 else None
            if (
                header is not None
                and header.journal_id == self._control.journal_id
                and header.segment == number
                and header.lsn >= lsn + (header.kind != Kind.SEAL)
                and body_intact(view, at, header)
            ):
                yield header, at
                lsn = header.lsn
                at += header.length
            else:
                at = segment.find(RECORD_MAGIC, at + 1, len(view))

    def _check_record(self, segment: SegmentMap, header: RecordHeader, offset: int) -> None:
        self._report.counts["records"] += 1
        name = f"record {header.lsn}"
        at = position(segment.number, offset)
        (word,) = OUTCOME_WORD.unpack_from(segment.view, offset + OUTCOME_OFFSET)
        known = read_outcome(segment.view, offset, header.lsn)
        if known is None:
            self._report.counts["waiting"] += 1
            if header.lsn <= self._cursor.lsn:
                what = f"{name} has no outcome, but the cursor has passed it"
                self._note(Code.RECORD_PASSED, what)
            elif word:
                self._note(Code.OUTCOME_DAMAGED, f"the outcome of {name} is damaged")
            self._check_base(segment, header, offset)
        if header.lsn == self._cursor.lsn and at + header.length != self._cursor.position:
            what = f"the cursor is at {self._cursor.position:#x}, not behind {name}"
            self._note(Code.CURSOR_WRONG, what)
        if header.lsn <= self._promised or self._control.damaged:
            key = (header.execution_hash, header.claim)
            self._newest[key] = max(self._newest.get(key, 0), header.seq)

    def _check_base(self, segment: SegmentMap, header: RecordHeader, offset: int) -> None:
        """A patch without outcome: its state can be rebuilt. (The store may have what it builds on,
        and then it is stored; but nothing vouches for that.)"""
        if not is_patch(header):
            return
        try:
            with_state(self._bases, read_record(segment.view, offset, header))
        except CorruptRecordError as error:
            (word,) = OUTCOME_WORD.unpack_from(segment.view, offset + OUTCOME_OFFSET)
            # If it is there and has none yet, its base has not been given up meanwhile.
            if not word and parse_header(segment.view, offset) == header:
                self._note(Code.PATCH_BASE, str(error))

    def _expect(self, lsn: int, *, together: bool) -> None:
        """All records up to ``lsn`` lie before this place; ``together``: in this segment, or at the
        end of the one before, so that none can have been recycled."""
        first = self._lsn + 1
        if lsn < first:
            return
        self._lsn = lsn
        what = f"record {lsn} is" if first == lsn else f"records {first} to {lsn} are"
        drained = self._cursor_lsn_now()
        if self._set_aside(max(first, drained + 1), lsn):
            what = f"{what} damaged or missing; what is left is in quarantine"
            self._note(Code.RECORD_ASIDE, what)
        elif lsn > drained:
            self._note(Code.RECORD_MISSING, f"{what} damaged or missing")
        elif together:
            what = f"{what} damaged or missing, but terminal already"
            self._note(Code.RECORD_MISSING_STORED, what)
        else:
            return
        self._report.counts["damaged"] += lsn - first + 1

    def _set_aside(self, first: int, last: int) -> bool:
        """Whether there are such records, and all of them were set aside as damaged."""
        if first > last:
            return False
        for known in sorted(self._lost, key=lambda known: known.start):
            if first in known:
                first = known.stop
        return first > last

    def _check_end(self) -> None:
        control = self._control
        if control.damaged:
            return
        if self._alive or control.boot == boot_id():  # a power loss may take what was not synced
            self._expect(self._promised, together=False)
        elif control.synced_lsn <= control.tail_lsn:
            self._expect(control.synced_lsn, together=False)
        if control.boot == boot_id() and self._cursor.lsn > max(self._lsn, control.tail_lsn):
            what = f"the cursor is behind record {self._cursor.lsn}, which does not exist"
            self._note(Code.CURSOR_WRONG, what)
        if not self._alive and control.synced_lsn > max(control.tail_lsn, self._lsn):
            what = f"record {control.synced_lsn} is said to be synced, and does not exist"
            self._note(Code.SYNCED_MISSING, what)
