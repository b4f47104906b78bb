"""The shared hot cache: the newest state of any execution, read straight from the journals.

Any process on the machine maps the journals of a state directory and reads them without asking
anyone, whether or not their owners live. What it cannot prove to be the newest it does not return;
it answers :data:`ASK` and the caller asks the service, which waits for queued writes and reads the
store. So a miss costs time, never truth.

Why an answer is the newest:

1. Whoever begins to write an execution marks its slot in every other journal as taken, before the
   first record is written (:meth:`HotCache.supersede`). So an owner that was overtaken before a
   save returned has a slot that is taken, or none.
2. An answer comes from the only journal that has a slot with records which is not taken. Two such
   slots mean that a take-over is under way (or died half-way): ASK.
3. A slot that is begun anew has forgotten its state before it counts again, so what it shows is of
   its present claim, or nobody else has owned the execution since.
4. The slot is read again after the record: if its claim or mark has changed, the answer is not used.
5. Indexes of earlier boots are not believed at all: their pages are never synced.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any, Final, NamedTuple

from livingai import serial
from livingai.errors import CorruptRecordError, JournalError
from livingai.node import ExecutionNode
from livingai.queue.directory import StateDirectory
from livingai.queue.index import Index, Slot
from livingai.queue.layout import StateKind
from livingai.queue.lock import boot_id
from livingai.queue.record import Record, execution_hash, read_record
from livingai.queue.segment import journal_error
from livingai.queue.segments import Segments

_RETRIES: Final = 4
#: Segments of one journal that a reader keeps mapped.
_MAPPED: Final = 8


class Ask:
    """The answer of a cache that cannot tell; see :data:`ASK`."""


#: The cache does not know; ask the service.
ASK: Final = Ask()


class Cached(NamedTuple):
    """A verified hit: the node that was saved, its state, and the record it came from."""

    node: ExecutionNode
    state: Any
    record: Record


def decode_state(kind: int, raw: bytes) -> Any:
    """The value that the caller saved, from a record's or checkpoint's raw state bytes."""
    if kind == StateKind.BYTES:
        return raw
    if kind == StateKind.MSGPACK:
        return serial.unpack(raw)
    if kind == StateKind.BYTEARRAY:
        return bytearray(raw)
    return None


class _JournalView:
    """One journal as the cache sees it: its index and mapped segments."""

    __slots__ = ("index", "segments")

    def __init__(self, directory: str) -> None:
        self.index = Index(directory)
        self.segments = Segments(directory, limit=_MAPPED)

    def read(self, at: int) -> Record | None:
        """The record at a position, verified; None if it is no longer there."""
        number = at >> 32
        try:
            segment = self.segments.get(number)
            record = read_record(segment.view, at & 0xFFFF_FFFF) if segment is not None else None
        except (CorruptRecordError, OSError):
            record = None
        if (
            record is None
            or record.header.segment != number
            or record.header.journal_id != self.index.journal_id
        ):
            self.segments.drop(number)  # recycled since it was mapped, perhaps
            return None
        self.index.touch(number)
        return record

    def close(self) -> None:
        self.segments.close()
        self.index.close()


class HotCache:
    """Reads the journals of a state directory. Thread-safe; holds maps, no locks on files."""

    def __init__(self, directory: StateDirectory, *, ttl_s: float) -> None:
        self._directory = directory
        self._ttl_ns = int(ttl_s * 1e9)
        self._names: set[str] = set()
        self._views: dict[str, _JournalView] = {}
        self._last_claim = 0
        self._lock = threading.Lock()

    def _refresh(self) -> list[_JournalView]:
        """Views of the journals of this boot that are there now. Raises OSError if one is there
        that cannot be opened for now (no descriptors left)."""
        try:
            names = {name for name in os.listdir(self._directory.journals) if name[0] != "."}
        except FileNotFoundError:
            names = set()
        if names != self._names:
            for name in [name for name in self._views if name not in names]:
                self._views.pop(name).close()
            self._names &= names
            for name in names - self._names:
                # Gone again, or damaged (then nobody can read it), or no journal: nothing to see.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
                    view = _JournalView(os.path.join(self._directory.journals, name))
                    if view.index.boot == boot_id():
                        self._views[name] = view
                    else:
                        view.close()
                self._names.add(name)
        return list(self._views.values())

    def latest(self, execution_id: str) -> Cached | Ask:
        """The newest state of an execution, or ASK."""
        key = execution_hash(execution_id)
        with self._lock:
            for _ in range(_RETRIES):
                view, slot = self._owner(key)
                if view is None or slot is None or not slot.state:
                    return ASK
                record = view.read(slot.state)
                if record is None or record.header.execution_hash != key:
                    continue
                if self._holds(view, key, slot, record):
                    return self._checked(record, execution_id)
        return ASK

    def node(self, node_id: str) -> Cached | Ask:
        """The newest version of a recent node, or ASK.

        Only the claim that wrote it can know that a version is the newest, and only while it owns
        the node's execution.
        """
        key = execution_hash(node_id)
        with self._lock:
            try:
                views = self._refresh()
            except OSError:
                return ASK
            for view in views:
                at = view.index.get_node(key)
                record = view.read(at) if at else None
                if record is not None and self._is_newest(view, record):
                    hit = self._checked(record, None)
                    return hit if not isinstance(hit, Ask) and hit.node.id == node_id else ASK
        return ASK

    def _is_newest(self, view: _JournalView, record: Record) -> bool:
        """Whether the claim that wrote a record of this journal still owns the execution."""
        key, claim = record.header.execution_hash, record.header.claim
        owner, slot = self._owner(key)
        if owner is not view or slot is None or slot.claim != claim:
            return False
        again = view.index.get(key)
        return again is not None and not again.superseded and again.claim == claim

    def _owner(self, key: int) -> tuple[_JournalView | None, Slot | None]:
        """The one journal that may know the newest state (rule 2), and its slot."""
        found: tuple[_JournalView | None, Slot | None] = (None, None)
        try:
            views = self._refresh()
        except OSError:
            return found
        for view in views:
            slot = view.index.get(key)
            if slot is not None and slot.newest and not slot.superseded:
                if found[0] is not None:
                    return None, None
                found = (view, slot)
        return found

    @staticmethod
    def _holds(view: _JournalView, key: int, slot: Slot, record: Record) -> bool:
        """Whether the slot still says so (rule 4), and the record is the one that it means."""
        again = view.index.get(key)
        if again is None or again.superseded or again.claim != slot.claim:
            return False
        header = record.header
        if slot.state == slot.newest and slot.seq:
            return (header.claim, header.seq) == (slot.claim, slot.seq)
        return header.claim == slot.claim or again.state == slot.state

    def _checked(self, record: Record, execution_id: str | None) -> Cached | Ask:
        header = record.header
        if abs(time.time_ns() - header.wall_ns) > self._ttl_ns:
            return ASK
        node = ExecutionNode.from_wire(serial.unpack(record.node))  # type: ignore[arg-type]
        if execution_id is not None and node.execution_id != execution_id:
            return ASK
        return Cached(node, decode_state(header.state_kind, record.state), record)

    # -- taking over --

    def take_over(self, execution_id: str, floor: int, own: int) -> tuple[int, bool]:
        """A claim newer than any that this directory knows for the execution (and than any that
        was given here before), and whether the own journal (id ``own``) still holds the newest
        state of it.

        Raises:
            JournalError: another journal cannot be opened for now.
        """
        key = execution_hash(execution_id)
        with self._lock:
            mine = False
            claim = max(floor, self._last_claim + 1)
            for view in self._views_to_mark():
                slot = view.index.get(key)
                if slot is None:
                    continue
                claim = max(claim, slot.claim + 1)
                if view.index.journal_id == own:
                    mine = not slot.superseded
                else:
                    view.index.take(key)
            self._last_claim = claim
            return claim, mine

    def supersede(self, key: int, own: int) -> None:
        """Mark the execution as taken over in all journals but the own one (rule 1).

        Raises:
            JournalError: another journal cannot be opened for now.
        """
        with self._lock:
            for view in self._views_to_mark():
                if view.index.journal_id != own:
                    view.index.take(key)

    def forget(self, execution_id: str) -> None:
        """No journal's entry of the execution is believed any more, until somebody writes it anew.

        Raises:
            JournalError: a journal cannot be opened for now.
        """
        key = execution_hash(execution_id)
        with self._lock:
            for view in self._views_to_mark():
                view.index.take(key)

    def _views_to_mark(self) -> list[_JournalView]:
        try:
            return self._refresh()
        except OSError as error:
            raise journal_error(error, "cannot look into the other journals") from error

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        with self._lock:
            for view in self._views.values():
                view.close()
            self._views.clear()
            self._names.clear()
