"""The shared hot cache: the newest state of any execution, read straight from the journals.

Any process on the machine maps the journals of a state directory and reads them without asking
anyone, whether or not their owners live. What it cannot prove to be the newest it does not return;
it answers :data:`ASK` and the caller asks the service, which waits for queued writes and reads the
store. So a miss costs time, never truth.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final, NamedTuple

from livingai import serial
from livingai.errors import CorruptRecordError
from livingai.node import ExecutionNode
from livingai.queue.directory import StateDirectory
from livingai.queue.index import Index, Slot
from livingai.queue.layout import StateKind
from livingai.queue.record import Record, execution_hash, read_record
from livingai.queue.tail import Segments

_RETRIES: Final = 4


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
        self.segments = Segments(directory, limit=32)

    def read(self, at: int) -> Record | None:
        """The record at a position, verified; None if it is no longer there."""
        number = at >> 32
        segment = self.segments.get(number)
        if segment is None:
            return None
        try:
            record = read_record(segment.view, at & 0xFFFF_FFFF)
        except CorruptRecordError:
            self.segments.drop(number)
            return None
        header = record.header
        if header.segment != number or header.journal_id != self.index.journal_id:
            self.segments.drop(number)
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
        self._views: dict[str, _JournalView] = {}
        self._lock = threading.Lock()

    def _refresh(self) -> list[_JournalView]:
        """Views of the journals that are there now."""
        try:
            names = os.listdir(self._directory.journals)
        except FileNotFoundError:
            names = []
        views = self._views
        if len(names) != len(views) or any(name not in views for name in names):
            for name in [name for name in views if name not in names]:
                views.pop(name).close()
            for name in names:
                if name not in views and name[0] != ".":
                    try:
                        views[name] = _JournalView(os.path.join(self._directory.journals, name))
                    except (OSError, ValueError):
                        continue  # being removed, or damaged: the service and the store know more
        return list(views.values())

    def latest(self, execution_id: str) -> Cached | Ask:
        """The newest state of an execution, or ASK."""
        key = execution_hash(execution_id)
        with self._lock:
            for _ in range(_RETRIES):
                view, slot = self._newest(key)
                if view is None or slot is None or slot.superseded or not slot.state:
                    return ASK
                record = view.read(slot.state)
                if record is not None and record.header.execution_hash == key:
                    return self._checked(record, execution_id)
        return ASK

    def node(self, node_id: str) -> Cached | Ask:
        """The newest version of a recent node, or ASK.

        Only a journal that still owns the node's execution can know that its version is the newest.
        """
        key = execution_hash(node_id)
        with self._lock:
            for view in self._refresh():
                at = view.index.get_node(key)
                record = view.read(at) if at else None
                if record is None:
                    continue
                newest, slot = self._newest(record.header.execution_hash)
                if newest is not view or slot is None or slot.superseded:
                    return ASK
                hit = self._checked(record, None)
                if isinstance(hit, Ask) or hit.node.id != node_id:
                    return ASK
                return hit
        return ASK

    def _newest(self, key: int) -> tuple[_JournalView | None, Slot | None]:
        """The slot with the newest claim; (None, None) if some index may have forgotten it."""
        best: tuple[_JournalView | None, Slot | None] = (None, None)
        for view in self._refresh():
            slot = view.index.get(key)
            if slot is None:
                if view.index.lossy(key):
                    return None, None
            elif best[1] is None or slot.claim > best[1].claim:
                best = (view, slot)
        return best

    def _checked(self, record: Record, execution_id: str | None) -> Cached | Ask:
        header = record.header
        if abs(time.time_ns() - header.wall_ns) > self._ttl_ns:
            return ASK
        node = ExecutionNode.from_wire(serial.unpack(record.node))  # type: ignore[arg-type]
        if execution_id is not None and node.execution_id != execution_id:
            return ASK
        return Cached(node, decode_state(header.state_kind, record.state), record)

    def take_over(self, execution_id: str, floor: int, own: int) -> tuple[int, bool]:
        """A claim newer than any that this directory knows for the execution, and whether it is
        the own journal (id ``own``) that held it last.

        Every other journal's entry is marked as taken, so that readers no longer believe it.
        """
        key = execution_hash(execution_id)
        with self._lock:
            views = self._refresh()
            slots = [(view, view.index.get(key)) for view in views]
            known = [max(slot.claim, slot.taken) for _, slot in slots if slot is not None]
            claim = max([floor, *(seen + 1 for seen in known)])
            mine = False
            for view, slot in slots:
                if slot is None:
                    continue
                if view.index.journal_id == own:
                    mine = not slot.superseded
                else:
                    view.index.take(key, claim)
            return claim, mine

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        with self._lock:
            for view in self._views.values():
                view.close()
            self._views.clear()
