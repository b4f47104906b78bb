"""An engine's membership in its state directory: joining, barriers, figures, leaving.

It joins at its first use (:class:`~livingai.engine.handle.DirectoryHandle` is what it then shares
with the other engines of the process) and leaves when it is closed. In a forked child it has never
joined.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from livingai.config import EngineConfig
from livingai.engine.handle import DirectoryHandle
from livingai.engine.metrics import EngineMetrics
from livingai.engine.observers import Observers, OutcomeObserver
from livingai.engine.registry import acquire_handle, release_handle
from livingai.engine.sla import Sla, SlaRecorder
from livingai.engine.waits import WaitFor, Waits, pass_time, pass_time_sync
from livingai.errors import FlushTimeoutError, JournalClosedError, OutcomeUnknownError
from livingai.outcome import Durability, Receipt
from livingai.queue.directory import StateDirectory
from livingai.stores.base import Store
from livingai.stores.elsewhere import left_in_default

if TYPE_CHECKING:
    from livingai.engine.tracing import SaveTracer

_log = logging.getLogger("livingai")


class EngineLifecycle:
    """The part of :class:`~livingai.CheckpointEngine` that joins and leaves. Thread-safe."""

    def __init__(self, store: Store, config: EngineConfig) -> None:
        self.store = store
        self.config = config
        self.directory = StateDirectory(config.directory or store.default_directory())
        self._closed = False
        self._before_close: tuple[Callable[[float], None], ...] = ()
        self._begin()
        _members.add(self)

    def _begin(self) -> None:
        """Begin as new; also in a forked child, which shares nothing with its parent."""
        self._sla = SlaRecorder()
        #: Makes spans, if the engine is to.
        self._tracer = _make_tracer(self.store, self.config)
        observers = (self._sla,) if self._tracer is None else (self._sla, self._tracer)
        self._observers = Observers(*observers)
        self._pending: dict[int, Receipt] = {}
        self._handle: DirectoryHandle | None = None
        #: Accepted records that wait where this engine does not look.
        self._left = ""
        self._opening = threading.Lock()

    def open_handle(self) -> DirectoryHandle:
        """This process's share of the state directory, opened at the first use.

        Raises:
            JournalClosedError: the engine is closed.
            DirectoryError, DiskFullError, StoreError: it cannot be opened.
        """
        handle = self._handle
        if handle is not None:
            return handle
        with self._opening:
            if self._closed:
                raise JournalClosedError
            if self._handle is None:
                self.store.validate()
                self._handle = acquire_handle(self.store, self.directory, self.config)
                self._left = left_in_default(self.store, self.directory)
                if self._left:
                    _log.warning("%s", self._left)
            return self._handle

    @property
    def closed(self) -> bool:
        """Whether the engine was closed."""
        return self._closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_sync()

    async def close(self, timeout: float = 10.0) -> None:
        """Wait up to ``timeout`` seconds until the store has everything, then leave the service.

        What is not stored by then stays in the journal and is stored by the service, and a warning
        in the log ``livingai`` says how many writes that are and what they wait for. Code that
        still waits for an outcome gets an :class:`~livingai.errors.OutcomeUnknownError`, unless
        another engine of this process uses the same directory. Idempotent.

        Raises:
            JournalError: the journal could not be synced to the disk; the engine is closed.
        """
        deadline = time.monotonic() + timeout
        if self._handle is not None:
            with contextlib.suppress(FlushTimeoutError, OutcomeUnknownError):
                await self.flush(timeout=timeout)
        await asyncio.get_running_loop().run_in_executor(None, self._leave, deadline)

    def close_sync(self, timeout: float = 10.0) -> None:
        """Twin of :meth:`close`."""
        deadline = time.monotonic() + timeout
        if self._handle is not None:
            with contextlib.suppress(FlushTimeoutError, OutcomeUnknownError):
                self.flush_sync(timeout=timeout)
        self._leave(deadline)

    def before_close(self, work: Callable[[float], None]) -> None:
        """Have ``work(seconds)`` called whenever the engine is closed, with the time that is left
        for it, once the writes that it has accepted were waited for and while it can still save:
        for what has to be saved because of their outcomes. It must not raise."""
        self._before_close = (*self._before_close, work)

    def _leave(self, deadline: float) -> None:
        if self._handle is not None:
            for work in self._before_close:
                work(max(0.0, deadline - time.monotonic()))
        with self._opening:
            handle, self._handle = self._handle, None
            self._closed = True
        if handle is not None:
            release_handle(handle)

    async def flush(
        self, level: Durability = Durability.STORE, timeout: float | None = None
    ) -> None:
        """Wait until every write that this engine has accepted so far has reached ``level``.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            JournalError: at FSYNC, the disk failed.
            OutcomeUnknownError: the engine was closed meanwhile.
        """
        await pass_time(self._flush(level, timeout))

    def flush_sync(
        self, level: Durability = Durability.STORE, timeout: float | None = None
    ) -> None:
        """Twin of :meth:`flush`."""
        pass_time_sync(self._flush(level, timeout))

    def _flush(self, level: Durability, timeout: float | None) -> Waits[None]:
        handle = self._handle
        if handle is None or handle.journal is None or level is Durability.JOURNAL:
            return
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        try:
            if level is Durability.FSYNC:
                yield WaitFor(handle.syncer.wait_for(), timeout)
                return
            handle.connection.hurry()
            for receipt in list(self._pending.values()):
                left = max(0.0, deadline - time.monotonic())
                yield WaitFor(receipt, None if timeout is None else left)
        except TimeoutError as error:
            raise self._not_reached() from error

    def _not_reached(self) -> FlushTimeoutError:
        return FlushTimeoutError(
            f"{len(self._pending)} writes have not reached the level in time; they are safe in "
            "the journal and will be stored. `livingai status` says what they wait for."
        )

    def _settled(self, receipt: Receipt) -> None:
        """A write of this engine has its outcome."""
        self._pending.pop(receipt.lsn, None)
        self._observers.offer(receipt)

    def observe(self, observer: OutcomeObserver) -> Callable[[], None]:
        """Have ``observer(receipt, outcome)`` called once for each write of this engine that gets
        its terminal outcome from now on, for metrics or logs; the result ends that.

        It is called in livingai's own thread: it must be quick and thread-safe. What it raises is
        logged and changes nothing. A write without an outcome when the engine is closed is not
        reported (see :meth:`flush`), and a forked child begins without observers.
        """
        return self._observers.add(observer)

    @property
    def metrics(self) -> EngineMetrics:
        """What this engine has done so far: writes by outcome and level, latencies, bytes, time
        spent in front of a full journal. A snapshot; it asks no other process."""
        return self._sla.metrics(len(self._pending))

    def _waited(self, seconds: float) -> None:
        """A save has waited so long for room in the journal."""
        self._sla.waited(seconds)
        handle = self._handle
        if handle is not None and handle.journal is not None:
            handle.journal.add_waited(seconds)

    def sla(self) -> Sla:
        """Counts and latency quantiles of this engine's writes so far."""
        handle = self._handle
        figures: dict[str, Any] = {"service": "closed" if self._closed else "not started"}
        if handle is not None:
            if self._left:
                self._left = left_in_default(self.store, self.directory)
            trouble = handle.connection.trouble or self._left
            figures = {"service": handle.connection.state, "trouble": trouble}
            oldest = handle.pending.oldest()
            if oldest is not None:
                figures["queue_age_ms"] = (time.monotonic_ns() - oldest.mono_ns) / 1e6
            if handle.journal is not None:
                figures["unsynced_bytes"] = handle.journal.unsynced_bytes
        return self._sla.summary(pending=len(self._pending), **figures)


def _make_tracer(store: Store, config: EngineConfig) -> SaveTracer | None:
    if config.traces == "off":
        return None
    from livingai.engine.tracing import SaveTracer  # noqa: PLC0415 - most engines have none

    return SaveTracer(store.url, nodes=config.traces == "nodes")


_members: weakref.WeakSet[EngineLifecycle] = weakref.WeakSet()


def _begin_after_fork() -> None:
    for member in list(_members):
        member._begin()


os.register_at_fork(after_in_child=_begin_after_fork)
