"""The part of :mod:`livingai.inspection.check` that compares a journal's index with its records.

The index is a hint, so an entry for which there is no record is harmless and a notice. An entry
that leads to another record, or to an older one than the journal has, is an error.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from livingai import serial
from livingai.errors import CorruptRecordError, OddFileError
from livingai.inspection.report import Code, Report
from livingai.node import NodeField
from livingai.queue.index import Index, Slot
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.lock import boot_id
from livingai.queue.record import Record, execution_hash, read_record
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments


def check_index(
    path: str,
    where: str,
    report: Report,
    segments: Segments,
    newest: dict[tuple[int, int], int],
) -> None:
    """Compare a journal's index with its records; ``newest`` is the largest published seq of each
    (execution, claim)."""
    try:
        index = Index(path, write=False)
    except FileNotFoundError:
        report.note(Code.INDEX_MISSING, where, "the index is missing")
        return
    except (OddFileError, ValueError) as error:
        report.note(Code.INDEX_DAMAGED, where, f"the index is damaged: {error}")
        return
    with contextlib.closing(index):
        if index.boot == boot_id():  # else no reader uses it
            check = _IndexCheck(where, report, segments, index)
            for key, slot in index.slots():
                check.slot(key, slot, newest.get((key, slot.claim), 0))
            for key, at in index.nodes():
                check.node(key, at)


class _IndexCheck:
    def __init__(self, where: str, report: Report, segments: Segments, index: Index) -> None:
        self._where = where
        self._report = report
        self._segments = segments
        self._index = index

    def slot(self, key: int, slot: Slot, newest: int) -> None:
        """One execution's entry."""
        self._report.counts["indexed"] += 1
        if slot.superseded:
            return
        errors, notices = [], []
        for at in {slot.state, slot.newest} - {0}:
            record = self._record_at(at)
            if record is None and self._is_there(at):
                notices.append(f"the index has an execution at {at:#x}, where there is no record")
            elif record is not None and record.header.execution_hash != key:
                errors.append(f"the index has an execution at {at:#x}, where there is another one")
        if slot.newest and newest > slot.seq:
            errors.append(f"the index has seq {slot.seq} of an execution, the journal {newest}")
        if self._index.get(key) == slot:  # it has not changed meanwhile
            for what in errors:
                self._report.note(Code.INDEX_WRONG, self._where, what)
            for what in notices:
                self._report.note(Code.INDEX_STALE, self._where, what)

    def node(self, key: int, at: int) -> None:
        """One node's entry."""
        record = self._record_at(at)
        if self._index.get_node(key) != at:
            return  # it changed meanwhile
        if record is not None and _node_key(record) != key:
            what = f"the index has a node at {at:#x}, which is another"
            self._report.note(Code.INDEX_WRONG, self._where, what)
        elif record is None and self._is_there(at):
            what = f"the index has a node at {at:#x}, where there is no record"
            self._report.note(Code.INDEX_STALE, self._where, what)

    def _is_there(self, at: int) -> bool:
        """Whether the segment of a position is in the journal (and not recycled)."""
        path = os.path.join(self._segments.directory, segment_name(segment_of(at)))
        segment = self._segments.get(segment_of(at))
        return segment is not None and segment.header() is not None and os.path.exists(path)

    def _record_at(self, at: int) -> Record | None:
        segment = self._segments.get(segment_of(at))
        if segment is None:
            return None
        try:
            record = read_record(segment.view, offset_of(at))
        except CorruptRecordError:
            return None
        return record if record.header.segment == segment_of(at) else None


def _node_key(record: Record) -> int:
    try:
        wire: Any = serial.unpack(record.node)
        return execution_hash(wire[NodeField.ID])
    except (ValueError, LookupError, TypeError, AttributeError):
        return 0
