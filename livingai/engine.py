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
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

from livingai import serial
from livingai.cache import Ask, decode_state
from livingai.config import EngineConfig
from livingai.errors import (
    ConfigurationError,
    FlushTimeoutError,
    InvalidNodeError,
    JournalClosedError,
    JournalFullError,
    ServiceUnavailableError,
    StateEncodingError,
    StateTooLargeError,
)
from livingai.local import Entry, Local, acquire_local, release_local
from livingai.node import ExecutionNode, validate_node
from livingai.outcome import Durability, Outcome, Receipt
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import Flag, StateKind
from livingai.queue.record import execution_hash, read_record
from livingai.sla import Sla, SlaRecorder
from livingai.stores.base import Store

_log = logging.getLogger("livingai")
T = TypeVar("T")
#: Node section, extension section, state kind, state section.
_Sections = tuple[bytes, bytes, int, bytes]


class CheckpointEngine:
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
        self._sla = SlaRecorder()
        self._pending: dict[int, Receipt] = {}
        self._local: Local | None = None
        self._opening = threading.Lock()
        self._closed = False

    # -- life --

    def open_local(self) -> Local:
        """This process's share of the state directory, opened at the first use."""
        local = self._local
        if local is not None and local.pid == os.getpid():
            return local
        if self._closed:
            raise JournalClosedError
        if local is not None:  # we are a forked child
            self._opening = threading.Lock()
            self._pending = {}
        with self._opening:
            if self._local is None or self._local.pid != os.getpid():
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
        if self._local is not None and not self._closed:
            with contextlib.suppress(FlushTimeoutError):
                await self.flush(timeout=timeout)
            await asyncio.get_running_loop().run_in_executor(None, self._leave)
        self._closed = True

    def close_sync(self, timeout: float = 10.0) -> None:
        """Twin of :meth:`close`."""
        if self._local is not None and not self._closed:
            with contextlib.suppress(FlushTimeoutError):
                self.flush_sync(timeout=timeout)
            self._leave()
        self._closed = True

    def _leave(self) -> None:
        with self._opening:
            local, self._local = self._local, None
            self._closed = True
        if local is not None and local.pid == os.getpid():
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
            InvalidNodeError, StateEncodingError, StateTooLargeError: nothing was saved.
            JournalFullError, DiskFullError, JournalError: no room, nothing was saved; see
                ``on_full``. All that was saved before is kept.
            StoreFormatError and other store errors: the store cannot be used at all.
        """
        encoded = self._encode(node, state, tags)
        try:
            receipt = self._append(node, encoded, budget_ms, history)
        except JournalFullError:
            if self.config.on_full == "raise":
                raise
            receipt = await asyncio.get_running_loop().run_in_executor(
                None, self._append_when_room, node, encoded, budget_ms, history
            )
        level = self._level if durability is None else durability
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
        encoded = self._encode(node, state, tags)
        try:
            receipt = self._append(node, encoded, budget_ms, history)
        except JournalFullError:
            if self.config.on_full == "raise":
                raise
            receipt = self._append_when_room(node, encoded, budget_ms, history)
        level = self._level if durability is None else durability
        if level is Durability.FSYNC:
            self.open_local().syncer.wait_for().result()
        elif level is Durability.STORE:
            receipt.result()
        return receipt

    def _encode(self, node: ExecutionNode, state: Any, tags: dict[str, Any] | None) -> _Sections:
        """(node section, extension section, state kind, state section)."""
        validate_node(node)
        try:
            wire = serial.pack(node.to_wire())
        except StateEncodingError as error:
            raise InvalidNodeError(f"the node cannot be encoded: {error}") from error
        if state is None:
            kind, raw = StateKind.NONE, b""
        elif type(state) is bytes:
            kind, raw = StateKind.BYTES, state
        elif isinstance(state, memoryview):
            kind, raw = StateKind.BYTES, state.tobytes()
        elif isinstance(state, bytearray):
            kind, raw = StateKind.BYTEARRAY, bytes(state)
        else:
            kind, raw = StateKind.MSGPACK, serial.pack(state)
        if len(raw) + len(wire) > self.config.max_state_bytes:
            raise StateTooLargeError(
                f"the state of {node.execution_id} has {len(raw)} bytes and its node {len(wire)}, "
                f"more than max_state_bytes={self.config.max_state_bytes}; raise the limit, or "
                "keep large artefacts outside the state"
            )
        return wire, serial.pack(tags) if tags else b"", kind, raw

    def _append(
        self,
        node: ExecutionNode,
        encoded: _Sections,
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
                budget_us=int((budget_ms or self.config.budget_ms) * 1000),
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
        encoded: _Sections,
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

    # -- reading --

    async def latest(self, execution_id: str) -> tuple[ExecutionNode, Any]:
        """The newest checkpoint of an execution: its node, and the state saved with it.

        Where the execution has nodes but no state yet: its newest node and None.

        Raises:
            ExecutionNotFoundError: it has no node, neither queued nor stored.
            ServiceUnavailableError: the cache cannot tell and the service does not answer.
        """
        hit = self._cached_latest(execution_id)
        if hit is not None:
            return hit
        return self._decoded(await self._ask("latest", execution_id))

    def latest_sync(self, execution_id: str) -> tuple[ExecutionNode, Any]:
        """Twin of :meth:`latest`."""
        hit = self._cached_latest(execution_id)
        if hit is not None:
            return hit
        return self._decoded(self._ask_sync("latest", execution_id))

    async def load(self, node_id: str) -> tuple[ExecutionNode, Any]:
        """A node in its newest version, and the newest state that it was saved with (or None).

        Raises:
            NodeNotFoundError: there is no such node, neither queued nor stored.
            ServiceUnavailableError: the cache cannot tell and the service does not answer.
        """
        hit = self._cached_node(node_id)
        if hit is not None:
            return hit
        return self._decoded(await self._ask("load", node_id))

    def load_sync(self, node_id: str) -> tuple[ExecutionNode, Any]:
        """Twin of :meth:`load`."""
        hit = self._cached_node(node_id)
        if hit is not None:
            return hit
        return self._decoded(self._ask_sync("load", node_id))

    async def nodes(self, execution_id: str) -> list[ExecutionNode]:
        """All nodes of an execution in their newest versions, in the order of their first save.

        Raises:
            ExecutionNotFoundError, ServiceUnavailableError: as :meth:`latest`.
        """
        return self._node_list(await self._ask("nodes", execution_id))

    def nodes_sync(self, execution_id: str) -> list[ExecutionNode]:
        """Twin of :meth:`nodes`."""
        return self._node_list(self._ask_sync("nodes", execution_id))

    def _cached_latest(self, execution_id: str) -> tuple[ExecutionNode, Any] | None:
        local = self.open_local()
        entry = local.entries.get(execution_id)
        if entry is not None and entry.state_at:
            own = self._own_latest(local, entry, execution_id)
            if own is not None:
                return own
        hit = local.cache.latest(execution_id)
        return None if isinstance(hit, Ask) else (hit.node, hit.state)

    def _own_latest(
        self, local: Local, entry: Entry, execution_id: str
    ) -> tuple[ExecutionNode, Any] | None:
        """Fast path: our own newest record, unless another process has taken over."""
        journal, own = local.journal, local.own_segments
        if journal is None or own is None:
            return None
        at = entry.state_at
        with local.lock:
            if not journal.index.owns(entry.slot, entry.key):
                return None
            if journal.index.taken(entry.slot) > entry.claim:
                return None
            segment = own.get(at >> 32)
            if segment is None:
                return None
            try:
                record = read_record(segment.view, at & 0xFFFF_FFFF)
            except ValueError:
                own.drop(at >> 32)
                return None
        if record.header.segment != at >> 32 or record.header.execution_hash != entry.key:
            return None
        if time.time_ns() - record.header.wall_ns > self.config.cache_ttl_s * 1e9:
            return None
        node = ExecutionNode.from_wire(serial.unpack(record.node))  # type: ignore[arg-type]
        if node.execution_id != execution_id:
            return None
        return node, decode_state(record.header.state_kind, record.state)

    def _cached_node(self, node_id: str) -> tuple[ExecutionNode, Any] | None:
        """A recent node whose newest version carries its state; else None: ask the store."""
        hit = self.open_local().cache.node(node_id)
        if isinstance(hit, Ask) or hit.record.header.state_kind == StateKind.NONE:
            return None
        return hit.node, hit.state

    @staticmethod
    def _decoded(answer: Any) -> tuple[ExecutionNode, Any]:
        wire, kind, raw = answer
        node = ExecutionNode.from_wire(serial.unpack(wire))  # type: ignore[arg-type]
        return node, decode_state(kind, raw) if raw is not None else None

    @staticmethod
    def _node_list(answer: Any) -> list[ExecutionNode]:
        return [ExecutionNode.from_wire(serial.unpack(part[0])) for part in answer]  # type: ignore[arg-type]

    async def _ask(self, verb: str, *arguments: Any) -> Any:
        future = self.open_local().client.request(verb, *arguments)
        try:
            return await asyncio.wait_for(
                asyncio.wrap_future(future), self.config.service_timeout_s
            )
        except TimeoutError as error:
            raise self._no_answer(verb, error) from error

    def _ask_sync(self, verb: str, *arguments: Any) -> Any:
        future: Future[Any] = self.open_local().client.request(verb, *arguments)
        try:
            return future.result(self.config.service_timeout_s)
        except TimeoutError as error:
            future.cancel()
            raise self._no_answer(verb, error) from error

    def _no_answer(self, verb: str, error: BaseException) -> BaseException:
        if isinstance(error, FlushTimeoutError):
            return error
        local = self._local
        why = f": {local.client.last_error}" if local and local.client.last_error else ""
        return ServiceUnavailableError(
            f"the service did not answer {verb!r} within {self.config.service_timeout_s} s{why}. "
            "Nothing is lost; see `livingai status` and service.log in the state directory."
        )

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
        local = self._local
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
        local = self._local
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
        )


__all__ = ["CheckpointEngine", "Outcome", "Receipt"]
