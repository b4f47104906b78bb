"""The part of :mod:`livingai.inspection.repair` that repairs a journal whose owner is dead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from livingai.errors import CorruptRecordError, DirectoryError, DirectoryInUseError, OddFileError
from livingai.inspection.foreign import foreign, records_of
from livingai.inspection.journal import check_journal
from livingai.inspection.oldest import oldest_cursor, unknown
from livingai.inspection.report import Code, Report
from livingai.inspection.workbench import Workbench
from livingai.queue import control as control_page
from livingai.queue import cursor as cursor_file
from livingai.queue import index as index_file
from livingai.queue.control import Control
from livingai.queue.cursor import Cursor, CursorFile, create_cursor
from livingai.queue.directory import is_journal
from livingai.queue.index import create_index
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import offset_of, position, segment_of
from livingai.queue.lock import Boot, OwnerLock, boot_id
from livingai.queue.names import put_back_names
from livingai.queue.opening import sync_path, what_is
from livingai.queue.quarantine import set_aside
from livingai.queue.segment import SegmentHeader, segment_name, segment_numbers
from livingai.queue.segments import Segments
from livingai.queue.tail import Found, JournalTail
from livingai.queue.walk import intact_records

_INDEX: Final = {Code.INDEX_MISSING, Code.INDEX_DAMAGED, Code.INDEX_WRONG}
#: The cursor does not count any more: the journal is read from its oldest record on.
_CURSOR: Final = {
    Code.CURSOR_MISSING, Code.CURSOR_ODD, Code.CURSOR_WRONG, Code.RECORD_PASSED,
}  # fmt: skip
#: No boot has this id. An index of another boot than this one is not read by agents.
_NO_BOOT: Final = bytes(16)


def repair_name(bench: Workbench, name: str) -> None:
    """A journal whose folder is not named like one, and whose control page cannot say which one it
    is, gets the name that its records have."""
    path = os.path.join(bench.directory.journals, name)
    if name.startswith(".") or os.path.islink(path) or not os.path.isdir(path):
        return
    if not is_journal(path):
        return
    try:
        Control(path).close()
    except CorruptRecordError:
        pass
    except (DirectoryError, OSError):
        return
    else:
        return
    with contextlib.closing(Segments(path)) as segments:
        found = {
            header.journal_id
            for number in segment_numbers(path)
            if (segment := segments.get(number)) is not None
            and (header := segment.header()) is not None
        }
    own = os.path.join(bench.directory.journals, f"{min(found, default=0):016x}")
    if len(found) == 1 and not os.path.lexists(own):
        os.rename(path, own)
        bench.note(path, f"renamed to {bench.where(own)}, as its segments say")


def repair_journals(bench: Workbench) -> None:
    """Repair all journals. At first each segment goes to where it belongs: only then is it known
    which records a journal misses.

    Raises:
        DirectoryInUseError: the owner of one lives.
        OSError: something cannot be moved or made.
    """
    paths = [path for path in bench.directory.journal_paths() if _free_lock(bench, path)]
    for path in paths:
        with _held(path):
            _move_segments(bench, path)
    for path in paths:
        with _held(path):
            for step in (_control, _cursor, _index, _records):
                step(bench, path, _codes(bench, path))
            sync_path(path)


@contextlib.contextmanager
def _held(path: str) -> Iterator[None]:
    lock = OwnerLock.acquire(os.path.join(path, OWNER_LOCK))
    if lock is None:
        raise DirectoryInUseError(f"a process uses {path}; end it, and try again")
    try:
        yield
    finally:
        lock.release()


def _codes(bench: Workbench, path: str) -> set[Code]:
    report = Report(bench.directory.path)
    check_journal(bench.directory, path, bench.where(path), report)
    return {finding.code for finding in report.findings}


def _free_lock(bench: Workbench, path: str) -> bool:
    """Move what is in the place of the owner's lock aside, unless the owner may live; whether the
    journal can be repaired."""
    lock = os.path.join(path, OWNER_LOCK)
    try:
        with contextlib.closing(Control(path)) as control:
            if not (odd := what_is(lock)):
                return True
            if control.boot in (boot_id(), b""):
                bench.note(
                    lock, f"{odd}, left as it is: it cannot be known whether the journal's owner "
                    "lives. If it does not, move that away",
                )  # fmt: skip
                return False
    except (CorruptRecordError, DirectoryError, OSError) as error:
        bench.note(path, f"left as it is: {error}")
        return False
    bench.move_aside(lock, odd)
    return True


def _move_segments(bench: Workbench, path: str) -> None:
    """Segments that are no files, that have another one's name, or are of another journal."""
    with contextlib.closing(Control(path)) as control:
        journal_id = control.journal_id
    for number in segment_numbers(path):
        file = os.path.join(path, segment_name(number))
        if odd := what_is(file):
            bench.move_aside(file, odd)
    with contextlib.closing(Segments(path)) as segments:
        stored = _stored_position(path, journal_id)
        for name, number in put_back_names(segments, journal_id, stored):
            file = os.path.join(path, segment_name(number))
            bench.note(file, f"had the name of segment {name}, and has its own again")
        for number in segment_numbers(path):
            segment = segments.get(number)
            header = foreign(segment, journal_id) if segment is not None else None
            if segment is None or header is None:
                continue
            if next(intact_records(segment, journal_id, number), None) is not None:
                continue
            waiting = records_of(segment, header, waiting=True)
            segments.drop(number)
            _move_foreign(bench, os.path.join(path, segment_name(number)), header, waiting)


def _stored_position(path: str, journal_id: int) -> int:
    """Where the cursor is; 0 if it is not true: no segment lies before that for sure."""
    cursor = _read_cursor(path, journal_id) or Cursor(0, 0)
    with contextlib.closing(JournalTail.behind(path, cursor)) as tail:
        return 0 if tail.doubt else cursor.position


def _move_foreign(bench: Workbench, file: str, header: SegmentHeader, waiting: set[int]) -> None:
    """Move a segment to its journal. One that has no place there goes to the quarantine, unless
    records wait in it that are nowhere else: the error stays, as nothing else would tell of them.
    """
    home = os.path.join(bench.directory.journals, f"{header.journal_id:016x}")
    there = os.path.join(home, segment_name(header.number))
    if os.path.isdir(home) and not os.path.lexists(there):
        if odd := what_is(os.path.join(home, OWNER_LOCK)):
            bench.note(
                file, f"left as it is: the lock of its journal, {bench.where(home)}, is {odd}, so "
                "it cannot be known whether a process writes there", lost=bool(waiting),
            )  # fmt: skip
            return
        with _held(home):
            os.rename(file, there)
            sync_path(home)
        bench.note(file, f"moved to {bench.where(there)}, the journal that it is of")
        return
    if waiting and os.path.isdir(home):
        with contextlib.closing(Segments(home)) as segments:
            known = segments.get(header.number)
            waiting = waiting - records_of(known, header) if known is not None else waiting
    if waiting:
        bench.note(
            file, f"left as it is: {len(waiting)} records of journal {header.journal_id:016x} wait "
            f"in it. Bring {bench.where(home)} back from a copy, with this segment as "
            f"{os.path.basename(there)}, or move the segment away if they are not wanted",
            lost=True,
        )  # fmt: skip
        return
    bench.move_aside(file, f"a segment of journal {header.journal_id:016x}")


def _control(bench: Workbench, path: str, codes: set[Code]) -> None:
    """A page that says what the segments say. The index goes with it: it may lack what the page
    does not show to be unpublished."""
    if Code.CONTROL_DAMAGED not in codes:
        return
    with contextlib.closing(Control(path)) as damaged:
        journal_id, created_ns = damaged.journal_id, damaged.created_ns
        boot = Boot(damaged.boot or _NO_BOOT, damaged.boot_order)
    last = _last_record(path)
    _index(bench, path, {Code.INDEX_WRONG})
    file = os.path.join(path, control_page.NAME)
    bench.move_aside(file, "damaged")
    with contextlib.closing(Control.create(path, journal_id, boot, created_ns)) as control:
        if last is not None:
            control.publish(last.position + last.header.length, last.header.lsn)
    bench.made(file)


def _last_record(path: str) -> Found | None:
    last = None
    with contextlib.closing(JournalTail(path)) as tail:
        for last in tail.read(alive=False):  # noqa: B007 - the last one is meant
            pass
    return last


def _cursor(bench: Workbench, path: str, codes: set[Code]) -> None:
    if not codes & {*_CURSOR, Code.CURSOR_SLOT}:
        return
    with contextlib.closing(Control(path)) as control:
        journal_id = control.journal_id
    with contextlib.closing(Segments(path)) as segments:
        older = oldest_cursor(segments, journal_id)
    known = _read_cursor(path, journal_id) or Cursor(0, 0)
    if Code.RECORD_UNKNOWN in codes:
        bench.note(path, unknown(known.lsn + 1, older.lsn), lost=True)
    if not codes & _CURSOR:
        older = max(older, known)
    file = os.path.join(path, cursor_file.NAME)
    bench.move_aside(file, "not true, damaged, or no file")
    create_cursor(path)
    if older.lsn:
        with contextlib.closing(CursorFile(path, journal_id, write=True)) as cursor:
            cursor.write(older.lsn, older.position)
    bench.made(file)


def _read_cursor(path: str, journal_id: int) -> Cursor | None:
    with (
        contextlib.suppress(FileNotFoundError, OddFileError),
        contextlib.closing(CursorFile(path, journal_id)) as cursor,
    ):
        return cursor.read()
    return None


def _index(bench: Workbench, path: str, codes: set[Code]) -> None:
    """An empty index, of no boot: what is in the journal is then read from the store."""
    if not codes & _INDEX:
        return
    with contextlib.closing(Control(path)) as control:
        journal_id = control.journal_id
    file = os.path.join(path, index_file.NAME)
    bench.move_aside(file, "not true, damaged, or no file")
    create_index(path, journal_id, sets=1, node_slots=1, boot=_NO_BOOT)
    bench.made(file)


def _records(bench: Workbench, path: str, codes: set[Code]) -> None:
    """What is left of damaged records is copied to the quarantine, as the service does it."""
    if Code.RECORD_MISSING not in codes:
        return
    with contextlib.closing(Control(path)) as control:
        journal_id = control.journal_id
    start = _read_cursor(path, journal_id) or Cursor(0, 0)
    with contextlib.closing(
        JournalTail(path, position=start.position, after_lsn=start.lsn)
    ) as tail:
        for _ in tail.read(alive=False):
            pass
        for damage in tail.damage:
            segment = tail.segments.get(segment_of(damage.position))
            begin = offset_of(damage.position)
            data = bytes(segment.view[begin : begin + damage.length]) if segment else b""
            at = position(segment_of(damage.position), begin)
            file = set_aside(
                bench.directory.quarantine, journal_id, at, data, **damage.about()
            )  # fmt: skip
            what = f"{damage.reason}; what is left of that is in {bench.where(file)}"
            bench.note(path, what, lost=damage.count > 0)
