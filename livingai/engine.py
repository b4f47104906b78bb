"""The checkpoint engine: what an agent holds.

``save`` encodes the node, appends it to this process's journal and returns; everything behind that
(compression, batching, the database) is the service's. Reads come from the hot cache, and only
when that cannot tell, from the service, which first waits for writes that are still queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from livingai.config import EngineConfig
from livingai.errors import (
    ConfigurationError,
    FlushTimeoutError,
    JournalClosedError,
    JournalFullError,
)
from livingai.housekeeping import Housekeeper
from livingai.local import Entry, Local, acquire_local, release_local
from livingai.node import ExecutionNode
from livingai.outcome import Durability, Outcome, Receipt
from livingai.policy import make_settings
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import Flag
from livingai.queue.record import execution_hash
from livingai.sections import Sections, encode_sections
from livingai.sla import Sla, SlaRecorder
from livingai.stores.base import Store

if TYPE_CHECKING:
    from livingai.run import Run, SyncRun

_log = logging.getLogger("livingai")
T = TypeVar("T")
_MAX_BUDGET_US = 0xFFFF_FFFF


class CheckpointEngine(Housekeeper):
    """Saves and reads an agent's checkpoints; see ``README.md`` for the six-line example.

    Args:
        store: where checkpoints end up, e.g. ``SQLiteStore("agent.db")``.
        config: all settings at once; keywords override single ones, see
            :class:`~livingai.config.EngineConfig`.

    The engine is inert until its first use: then it makes the state directory, joins the writer
    service or starts it. Thread-safe; a forked child uses a journal of its own.

    Raises:
        ConfigurationError: a setting that cannot work.
    """

    def __init__(self, store: Store, config: EngineConfig | None = None, **settings: Any) -> None:
        if not isinstance(store, Store):
            raise ConfigurationError(
                f"CheckpointEngine takes a store such as SQLiteStore('agent.db'), not {store!r}"
            )
        try:
            config = replace(config or EngineConfig(), **settings)
        except TypeError as error:
            raise ConfigurationError(f"unknown setting: {error}") from error
        config.validate()
        self.store = store
        self.config = config
        self.directory = StateDirectory(config.directory or store.default_directory())
        self._level = config.durability
        self._budget_us = _budget_us(config.budget_ms)
        self._closed = False
        self._begin()

    # -- life --

    def _begin(self) -> None:
        """Without a past: new, or in a forked child, which shares nothing with its parent."""
        self._pid = os.getpid()
        self._sla = SlaRecorder()
        self._pending: dict[int, Receipt] = {}
        self._local: Local | None = None
        self._opening = threading.Lock()

    def _opened(self) -> Local | None:
        """This process's share of the state directory, if it has been opened."""
        if self._pid != os.getpid():
            self._begin()
        return self._local

    def open_local(self) -> Local:
        """This process's share of the state directory, opened at the first use."""
        local = self._opened()
        if local is not None:
            return local
        with self._opening:
            if self._closed:
                raise JournalClosedError
            if self._local is None:
                self.store.validate()
                self._local = acquire_local(self.store, self.directory, self.config)
            return self._local

    async def __aenter__(self) -> CheckpointEngine:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __enter__(self) -> CheckpointEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_sync()

    async def close(self, timeout: float = 10.0) -> None:
        """Wait up to ``timeout`` seconds until the store has everything, then leave the service.

        What is not stored by then stays in the journal and is stored by the service. Idempotent.
        """
        if self._opened() is not None:
            with contextlib.suppress(FlushTimeoutError):
                await self.flush(timeout=timeout)
            await asyncio.get_running_loop().run_in_executor(None, self._leave)
        self._closed = True

    def close_sync(self, timeout: float = 10.0) -> None:
        """Twin of :meth:`close`."""
        if self._opened() is not None:
            with contextlib.suppress(FlushTimeoutError):
                self.flush_sync(timeout=timeout)
            self._leave()
        self._closed = True

    def _leave(self) -> None:
        with self._opening:
            local, self._local = self._local, None
            self._closed = True
        if local is not None:
            release_local(local)

    # -- writing --

    async def save(
        self,
        node: ExecutionNode,
        state: Any = None,
        *,
        durability: Durability | None = None,
        budget_ms: float | None = None,
        history: bool | None = None,
        tags: dict[str, Any] | None = None,
    ) -> Receipt:
        """Record ``node`` and, unless None, the agent's ``state`` after it.

        Returns once the record survives the death of any process, in tens of microseconds; with
        ``durability`` FSYNC or STORE once that level is reached. ``state`` is bytes or whatever
        :func:`livingai.serial.pack` takes and comes back with the type that went in.
        ``budget_ms`` and ``history`` override the engine's settings for this write; ``tags`` (a
        small dict) travel with the record to the store.

        Raises:
            InvalidNodeError, StateEncodingError, StateTooLargeError, ConfigurationError (an option
                that cannot work): nothing was saved.
            JournalFullError, DiskFullError, JournalError: no room, nothing was saved; see
                ``on_full``. All that was saved before is kept.
            StoreFormatError and other store errors: the store cannot be used at all.
        """
        level = self._level if durability is None else _checked_level(durability)
        encoded = encode_sections(node, state, tags, self.config.max_state_bytes)
        try:
            receipt = self._append(node, encoded, budget_ms, history)
        except JournalFullError:
            if self.config.on_full == "raise":
                raise
            receipt = await asyncio.get_running_loop().run_in_executor(
                None, self._append_when_room, node, encoded, budget_ms, history
            )
        if level is Durability.FSYNC:
            await asyncio.wrap_future(self.open_local().syncer.wait_for())
        elif level is Durability.STORE:
            await receipt
        return receipt

    def save_sync(
        self,
        node: ExecutionNode,
        state: Any = None,
        *,
        durability: Durability | None = None,
        budget_ms: float | None = None,
        history: bool | None = None,
        tags: dict[str, Any] | None = None,
    ) -> Receipt:
        """Twin of :meth:`save`."""
        level = self._level if durability is None else _checked_level(durability)
        encoded = encode_sections(node, state, tags, self.config.max_state_bytes)
        try:
            receipt = self._append(node, encoded, budget_ms, history)
        except JournalFullError:
            if self.config.on_full == "raise":
                raise
            receipt = self._append_when_room(node, encoded, budget_ms, history)
        if level is Durability.FSYNC:
            self.open_local().syncer.wait_for().result()
        elif level is Durability.STORE:
            receipt.result()
        return receipt

    def _append(
        self,
        node: ExecutionNode,
        encoded: Sections,
        budget_ms: float | None,
        history: bool | None,
    ) -> Receipt:
        local = self._local
        if local is None or local.pid != os.getpid():
            local = self.open_local()
        journal = local.journal or local.open_journal()
        wire, ext, kind, raw = encoded
        flags = 0
        if kind:
            flags = Flag.STATE
            if not (self.config.history if history is None else history):
                flags |= Flag.LATEST_ONLY
        execution_id = node.execution_id
        with local.lock:
            entry = local.entries.get(execution_id)
            if entry is None or not journal.index.owns(entry.slot, entry.key):
                entry = local.enter(execution_id, journal)
            at = journal.append(
                key=entry.key, slot=entry.slot, node_key=execution_hash(node.id),
                claim=entry.claim, epoch=entry.epoch, seq=entry.seq + 1, flags=flags,
                state_kind=kind, node=wire, ext=ext, state=raw,
                budget_us=self._budget_us if budget_ms is None else _budget_us(budget_ms),
            )  # fmt: skip
            entry.seq += 1
            if kind:
                entry.state_at = at.position
            receipt = Receipt(execution_id, node.id, at.lsn, at.position, self._settled)
            local.pending[at.lsn] = (receipt, at.mono_ns)
            self._pending[at.lsn] = receipt
            self._sla.saves += 1
        local.client.wake()
        return receipt

    def _settled(self, receipt: Receipt) -> None:
        self._pending.pop(receipt.lsn, None)
        self._sla(receipt)

    def _append_when_room(
        self,
        node: ExecutionNode,
        encoded: Sections,
        budget_ms: float | None,
        history: bool | None,
    ) -> Receipt:
        """Try again as the store makes room, for as long as ``on_full`` says."""
        write_through = self.config.on_full == "write_through"
        local = self.open_local()
        deadline = time.monotonic() + self.config.on_full_timeout_s
        while True:
            try:
                receipt = self._append(node, encoded, budget_ms, history)
            except JournalFullError:
                left = deadline - time.monotonic()
                if left <= 0 and not write_through:
                    raise
                local.client.wake()
                with local.progress:
                    local.progress.wait(0.1 if write_through else min(0.1, left))
            else:
                if write_through:
                    receipt.result()
                return receipt

    # -- ownership --

    async def claim(self, execution_id: str) -> int:
        """Take an execution over, explicitly: the next epoch in the store is this process's.

        Writes that were queued before are stored first; what the previous owner writes from now on
        ends ``fenced``, on whatever machine it lives. A first ``save`` claims by itself, once it
        reaches the store; call this where the claim must hold before anything else is done (resume
        after a crash on another host).

        Returns the epoch.

        Raises:
            FencedError: yet another owner has claimed it at the same time.
            ServiceUnavailableError: the service does not answer.
        """
        entry, token = self.new_claim(execution_id)
        epoch = await self.confirm_claim(execution_id, token)
        entry.epoch = epoch
        return epoch

    def claim_sync(self, execution_id: str) -> int:
        """Twin of :meth:`claim`."""
        entry, token = self.new_claim(execution_id)
        epoch = self.confirm_claim_sync(execution_id, token)
        entry.epoch = epoch
        return epoch

    def new_claim(self, execution_id: str) -> tuple[Entry, str]:
        """The first half of :meth:`claim`: other processes of this machine are told; the claim."""
        local = self.open_local()
        journal = local.open_journal()
        with local.lock:
            local.entries.pop(execution_id, None)
            entry = local.enter(execution_id, journal)
        return entry, f"{journal.id:016x}-{entry.claim:x}"

    async def confirm_claim(self, execution_id: str, claim: str) -> int:
        """The second half of :meth:`claim`: the epoch that the store gives, or has given, to it."""
        return int(await self._ask("claim", execution_id, claim))

    def confirm_claim_sync(self, execution_id: str, claim: str) -> int:
        """Twin of :meth:`confirm_claim`."""
        return int(self._ask_sync("claim", execution_id, claim))

    # -- recorded programs --

    def run(self, execution_id: str, **settings: Any) -> Run:
        """A program whose calls are recorded: ``async with engine.run("run-1") as run: ...``.

        It resumes what is recorded under that id; see :class:`~livingai.run.Run`. Keywords are
        those of :class:`~livingai.policy.RunSettings`, above all ``resolver`` (decides about tools
        in doubt) and ``exclusive`` (several machines).

        Raises:
            ConfigurationError: a setting that cannot work; the rest when the run is entered:
            FencedError, ServiceUnavailableError, and what :meth:`save` raises.
        """
        from livingai.run import Run  # noqa: PLC0415 - it needs this class

        return Run(self, execution_id, make_settings(settings))

    def run_sync(self, execution_id: str, **settings: Any) -> SyncRun:
        """Twin of :meth:`run`: ``with engine.run_sync("run-1") as run: ...``."""
        from livingai.run import SyncRun  # noqa: PLC0415 - it needs this class

        return SyncRun(self, execution_id, make_settings(settings))

    # -- barriers and figures --

    async def flush(
        self, level: Durability = Durability.STORE, timeout: float | None = None
    ) -> None:
        """Wait until every write that this engine has accepted so far has reached ``level``.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            JournalError: at FSYNC, the disk failed.
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.flush_sync, level, timeout)

    def flush_sync(
        self, level: Durability = Durability.STORE, timeout: float | None = None
    ) -> None:
        """Twin of :meth:`flush`."""
        local = self._opened()
        if local is None or local.journal is None or level is Durability.JOURNAL:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        if level is Durability.FSYNC:
            self._waited(lambda left: local.syncer.wait_for().result(left), deadline)
            return
        local.client.wake()
        for receipt in list(self._pending.values()):
            self._waited(receipt.result, deadline)

    def _waited(self, wait: Callable[[float | None], T], deadline: float | None) -> T:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return wait(left)
        except TimeoutError as error:
            raise FlushTimeoutError(
                f"{len(self._pending)} writes have not reached the level in time; they are safe in "
                "the journal and will be stored. `livingai status` tells what they wait for."
            ) from error

    def sla(self) -> Sla:
        """Counts and latency quantiles of this engine's writes so far."""
        local = self._opened()
        if local is None:
            return self._sla.summary(
                pending=0, queue_age_ms=0.0, unsynced_bytes=0, service="not started"
            )
        with local.lock:
            oldest = next(iter(local.pending.values()), None)
        age_ms = 0.0 if oldest is None else (time.monotonic_ns() - oldest[1]) / 1e6
        return self._sla.summary(
            pending=len(self._pending),
            queue_age_ms=age_ms,
            unsynced_bytes=local.journal.unsynced_bytes if local.journal else 0,
            service=local.client.state,
            trouble=local.client.trouble,
        )


def _checked_level(level: Durability) -> Durability:
    if not isinstance(level, Durability):
        raise ConfigurationError(f"durability must be a livingai.Durability, not {level!r}")
    return level


def _budget_us(budget_ms: float) -> int:
    """As a record holds it: 71 minutes at most."""
    if not isinstance(budget_ms, int | float) or not budget_ms > 0:
        raise ConfigurationError(f"budget_ms must be a positive number, got {budget_ms!r}")
    return int(min(budget_ms * 1000, _MAX_BUDGET_US))


__all__ = ["CheckpointEngine", "Outcome", "Receipt"]
