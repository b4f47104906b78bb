"""The shared hot cache: the newest state of any execution, read straight from the journals.

Any process on the machine maps the journals of a state directory and reads them without asking
anyone, whether or not their owners live. What it cannot prove to be the newest it does not return
(:mod:`livingai.queue.views` has the proof); it answers :data:`ASK` and the caller asks the service,
which waits for queued writes and reads the store. So a miss costs time, and never gives a wrong
answer.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from livingai import serial
from livingai.errors import JournalClosedError, JournalError, LivingAIError
from livingai.failpoint import failpoint
from livingai.node import ExecutionNode
from livingai.protocol.sections import Cached, decode_state
from livingai.queue.directory import StateDirectory
from livingai.queue.record import Record, RecordHeader, execution_hash
from livingai.queue.views import JournalView, Views

_RETRIES: Final = 4


class Ask:
    """The answer of a cache that does not know; see :data:`ASK`."""


#: The cache does not know; ask the service.
ASK: Final = Ask()


def is_older(header: RecordHeader, ttl_ns: float) -> bool:
    """Whether a record of this boot was accepted longer ago than that: by either clock, because one
    may be put back, and the other one stands still while the machine sleeps."""
    by_wall_ns = abs(time.time_ns() - header.wall_ns)
    return max(by_wall_ns, time.monotonic_ns() - header.mono_ns) > ttl_ns


class HotCache:
    """Reads the journals of a state directory. Thread-safe; holds maps, no locks on files."""

    def __init__(self, directory: StateDirectory, *, ttl_s: float) -> None:
        self._ttl_ns = int(ttl_s * 1e9)
        self._views = Views(directory.journals)
        self._last_claim = 0
        self._lock = threading.Lock()
        self._closed = False

    # -- reading --

    def latest(self, execution_id: str) -> Cached | Ask:
        """The newest state of an execution, or ASK."""
        key = execution_hash(execution_id)
        with self._lock:
            for _ in range(0 if self._closed else _RETRIES):
                owner = self._views.owner(key)
                if owner is None:
                    return ASK
                view, slot = owner
                if not slot.state:
                    return ASK
                record = view.read(slot.state)
                if record is None or record.header.execution_hash != key:
                    continue
                if view.holds(slot, record):
                    hit = self._decoded(record)
                    return ASK if hit is None or hit.node.execution_id != execution_id else hit
        return ASK

    def node(self, node_id: str) -> Cached | Ask:
        """The newest version of a recent node, or ASK.

        Only the claim that wrote a version can know that it is the newest, and only while it owns
        the node's execution. Ids that several executions share get the version of any of them.
        """
        key = execution_hash(node_id)
        with self._lock:
            if self._closed:
                return ASK
            try:
                views = self._views.refresh()
            except JournalError:
                return ASK
            for view in views:
                at = view.index.get_node(key)
                record = view.read(at) if at else None
                if record is not None and self._is_newest(view, record):
                    hit = self._decoded(record)
                    return ASK if hit is None or hit.node.id != node_id else hit
        return ASK

    def _is_newest(self, view: JournalView, record: Record) -> bool:
        """Whether the claim that wrote a record of this journal still owns the execution."""
        header = record.header
        owner = self._views.owner(header.execution_hash)
        return (
            owner is not None
            and owner[0] is view
            and view.still_owns(header.execution_hash, header.claim)
        )

    def _decoded(self, record: Record) -> Cached | None:
        """The saved values; None if they are too old, or cannot be decoded."""
        header = record.header
        if is_older(header, self._ttl_ns):
            return None
        try:
            node = ExecutionNode.from_wire(serial.unpack(record.node))  # type: ignore[arg-type]
            return Cached(node, decode_state(header.state_kind, record.state), record)
        except (LivingAIError, ValueError, TypeError, LookupError):
            return None  # its sums fit, and it makes no sense: the service sets it aside

    # -- taking over --

    def take_over(self, execution_id: str, floor: int, own: int) -> int:
        """A claim newer than any that this directory knows for the execution (and than any that
        was given here before), for the journal with id ``own``. Other journals' entries do not
        count any more.

        Raises:
            JournalError: another journal cannot be opened for now.
            JournalClosedError: the cache is closed.
        """
        key = execution_hash(execution_id)
        with self._lock:
            self._check_open()
            claim = max(floor, self._last_claim + 1)
            for view in self._views.refresh():
                slot = view.index.get(key)
                if slot is not None:
                    claim = max(claim, slot.claim + 1)
            failpoint("takeover.before_mark")
            self._views.mark(key, own)
            failpoint("takeover.after_mark")
            self._last_claim = claim
            return claim

    def supersede(self, key: int, own: int) -> None:
        """The journal ``own`` is about to write its first record of an execution: no other
        journal's entry of it counts any more (:attr:`livingai.queue.journal.Journal.supersede`).

        Raises:
            JournalError: another journal cannot be opened for now.
        """
        with self._lock:
            self._check_open()
            self._views.mark(key, own)

    def entering(self, execution_id: str, own: int) -> bool:
        """Whether another process may be taking the execution over at this moment, or has died in
        the middle of that; see :meth:`livingai.queue.views.Views.entering`.

        Raises:
            JournalError: another journal cannot be opened for now.
        """
        with self._lock:
            self._check_open()
            return self._views.entering(execution_hash(execution_id), own)

    def forget(self, execution_id: str) -> None:
        """The execution is about to be deleted: no journal's entry of it counts until a process
        writes to it again.

        Raises:
            JournalError: a journal cannot be opened for now.
        """
        with self._lock:
            self._check_open()
            self._views.mark(execution_hash(execution_id), 0)

    def _check_open(self) -> None:
        if self._closed:  # or mappings would be made that are never closed
            raise JournalClosedError

    def close(self) -> None:
        """Unmap everything. Idempotent."""
        with self._lock:
            self._closed = True
            self._views.close()
