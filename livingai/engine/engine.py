"""The checkpoint engine: what an agent holds.

``save`` encodes the node, appends it to this process's journal and returns; everything behind that
(compression, batching, the database) is the service's. Reads come from the hot cache, and only
when that does not know, from the service, which first waits for writes that are still queued.
"""

from __future__ import annotations

import livingai._linux  # noqa: F401  # isort: skip

import contextlib
import time
from typing import TYPE_CHECKING, Any, Unpack

from livingai.asked import check_text
from livingai.config import EngineConfig, EngineKeywords
from livingai.engine.handle import DirectoryHandle
from livingai.engine.patches import Lineage
from livingai.engine.pending import OwnedExecution, Pending
from livingai.engine.upkeep import EngineUpkeep
from livingai.engine.waits import WaitFor, Waits, pass_time, pass_time_sync
from livingai.errors import (
    ConfigurationError,
    JournalClosedError,
    JournalFullError,
    LivingAIError,
    OutcomeUnknownError,
)
from livingai.node import ExecutionNode
from livingai.outcome import Durability, Outcome, Receipt
from livingai.protocol import verbs
from livingai.protocol.sections import Sections, encode_sections
from livingai.queue.layout import Flag, owner_token
from livingai.queue.record import execution_hash
from livingai.runs.policy import RunKeywords, make_settings
from livingai.runs.ports import ClaimState, OwnedClaim
from livingai.stores.base import Store

if TYPE_CHECKING:
    from livingai.runs.run import Run, SyncRun

_MAX_BUDGET_US = 0xFFFF_FFFF
#: More bytes than a state may have.
_NEVER = 1 << 62
#: While the journal is full, a waiting save re-checks for space at least this often (s).
_LOOK_S = 0.1


class CheckpointEngine(EngineUpkeep):
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

    def __init__(
        self, store: Store, config: EngineConfig | None = None, **settings: Unpack[EngineKeywords]
    ) -> None:
        if not isinstance(store, Store):
            raise ConfigurationError(
                f"CheckpointEngine takes a store such as SQLiteStore('agent.db'), not {store!r}"
            )
        config = EngineConfig.build(config, settings, "CheckpointEngine")
        super().__init__(store, config)
        self._level = config.durability
        self._budget_us = _budget_us(config.budget_ms)
        self._linger_ns = int(config.linger_ms * 1e6)
        self._patch_from = config.patch_from_bytes or _NEVER

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
        ``durability`` FSYNC once that level is reached, with STORE once the write has its outcome
        (look at it: one that is fenced or quarantined is not stored). ``state`` is bytes or what
        :func:`livingai.serial.pack` takes, and comes back with the type that went in.
        ``budget_ms`` and ``history`` override the engine's settings for this write; ``tags`` (a
        small dict) travel with the record to the store.

        Raises:
            InvalidNodeError, StateEncodingError, StateTooLargeError: nothing was saved.
            ConfigurationError: an option that cannot work; nothing was saved.
            JournalFullError, DiskFullError, JournalError: no room, nothing was saved; see
                ``on_full``. All that was saved before is kept.
            StoreFormatError and other store errors: the store cannot be used at all.
        """
        level = self._level if durability is None else _checked_level(durability)
        encoded = encode_sections(node, state, tags, self.config.max_state_bytes)
        append = self._append if self._tracer is None else self._append_traced
        try:
            receipt = append(node, encoded, budget_ms, history)
        except JournalFullError:
            if self.config.on_full == "raise":
                raise
            work = self._append_when_room(node, encoded, budget_ms, history)
            receipt = await pass_time(work)
        if level is Durability.FSYNC:
            await self.open_handle().syncer.wait_for()
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
        append = self._append if self._tracer is None else self._append_traced
        try:
            receipt = append(node, encoded, budget_ms, history)
        except JournalFullError:
            if self.config.on_full == "raise":
                raise
            work = self._append_when_room(node, encoded, budget_ms, history)
            receipt = pass_time_sync(work)
        if level is Durability.FSYNC:
            self.open_handle().syncer.wait_for().result()
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
        handle = self._handle or self.open_handle()
        journal = handle.journal or handle.open_journal()
        wire, ext, kind, raw = encoded
        flags = 0
        if kind:
            flags = Flag.STATE
            if not (self.config.history if history is None else history):
                flags |= Flag.LATEST_ONLY
        budget_us = self._budget_us if budget_ms is None else _budget_us(budget_ms)
        execution_id = node.execution_id
        large = len(raw) >= self._patch_from
        if large:
            flags |= Flag.BASE
        with handle.lock:
            if handle.closed:
                raise JournalClosedError
            owned = handle.entry(execution_id, journal)
            line = owned.lineage
            patch = None
            own = handle.own_segments
            if large and line is not None and own is not None:
                with own.lock:
                    patch = line.patch(raw, own)
            # Used up even where a signal's exception ends the append: it may have been written, and
            # no other write may bear its number.
            owned.seq = seq = owned.seq + 1
            try:
                at = journal.append(
                    key=owned.key, slot=owned.slot, node_key=execution_hash(node.id),
                    claim=owned.claim, epoch=owned.epoch, seq=seq, flags=flags,
                    state_kind=kind, node=wire, ext=ext, state=raw, budget_us=budget_us,
                    patch=patch,
                )  # fmt: skip
            except LivingAIError:  # it was not
                owned.seq = seq - 1
                raise
            except BaseException:
                owned.lineage = None
                if not journal.index.seq(owned.slot):  # a claim's first record has number 1
                    handle.owned.pop(execution_id, None)
                raise
            if kind:
                owned.state_at = at.position
            if at.patched and patch is not None and line is not None:
                line.patched(patch)
            elif large:
                line = owned.lineage = line or Lineage()
                line.wrote(raw, at.position, seq, at.reliance)
            receipt = Receipt(execution_id, node.id, at.lsn, at.position, self._settled)
            handle.pending.add(at.lsn, Pending(receipt, at.mono_ns, owned))
            self._pending[at.lsn] = receipt
            self._sla.accepted(len(raw), len(wire) + len(ext))
        handle.connection.appended(receipt, budget_us, self._linger_ns)
        handle.sync_soon()
        return receipt

    def _append_traced(
        self,
        node: ExecutionNode,
        encoded: Sections,
        budget_ms: float | None,
        history: bool | None,
    ) -> Receipt:
        """As :meth:`_append`, with spans, and the span's context in the record."""
        tracer = self._tracer
        assert tracer is not None
        tracer.ended(node)
        span = tracer.begin(node)
        wire, ext, kind, raw = encoded
        began_ns = time.time_ns()
        try:
            receipt = self._append(
                node, (wire, tracer.extension(span, ext), kind, raw), budget_ms, history
            )
        except JournalFullError:  # it may be tried again, and a span that is not ended is nothing
            raise
        except BaseException as error:
            tracer.refused(span, error)
            raise
        tracer.accepted(span, receipt, began_ns, len(raw))
        return receipt

    def _append_when_room(
        self,
        node: ExecutionNode,
        encoded: Sections,
        budget_ms: float | None,
        history: bool | None,
    ) -> Waits[Receipt]:
        """Try again as the store makes room, for as long as ``on_full`` says."""
        room = _Room(self.open_handle(), self.config)
        append = self._append if self._tracer is None else self._append_traced
        while True:
            began = time.monotonic()
            try:
                receipt = append(node, encoded, budget_ms, history)
            except JournalFullError:
                oldest, wait_s = room.look()
                if wait_s <= 0:
                    raise
                try:
                    with contextlib.suppress(TimeoutError, OutcomeUnknownError):
                        yield WaitFor(oldest, wait_s)
                finally:
                    self._waited(time.monotonic() - began)
            else:
                if room.write_through:
                    yield WaitFor(receipt, None)
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
            ServiceUnavailableError: the service does not answer; nothing is certain then but that
                the next save of this process takes the execution over again.
        """
        owned, token = self.new_claim(execution_id)
        epoch = await self.confirm_claim(execution_id, token)
        owned.epoch = epoch
        return epoch

    def claim_sync(self, execution_id: str) -> int:
        """Twin of :meth:`claim`."""
        owned, token = self.new_claim(execution_id)
        epoch = self.confirm_claim_sync(execution_id, token)
        owned.epoch = epoch
        return epoch

    def new_claim(self, execution_id: str) -> tuple[OwnedExecution, str]:
        """The first half of :meth:`claim`: other processes of this machine see it from now on; the
        claim."""
        check_text(execution_id, "execution_id")
        handle = self.open_handle()
        journal = handle.open_journal()
        with handle.lock:
            handle.owned.pop(execution_id, None)
            owned = handle.enter(execution_id, journal)
        return owned, owner_token(journal.id, owned.claim)

    def press_claim(self, owned: OwnedClaim) -> None:
        """Mark the execution as taken once more: a process that began its claim at the moment of
        :meth:`new_claim` may have had nothing to mark by then.

        Raises:
            JournalError: another journal cannot be opened for now.
        """
        handle = self.open_handle()
        handle.cache.supersede(owned.key, handle.open_journal().id)

    def keep_claim(self, execution_id: str, owned: OwnedClaim) -> None:
        """Remember a claim of this process that was displaced, unless it has made a newer one."""
        assert isinstance(owned, OwnedExecution)
        self.open_handle().keep(execution_id, owned)

    async def confirm_claim(self, execution_id: str, claim: str) -> int:
        """The second half of :meth:`claim`: the epoch that the store gives, or has given, to it."""
        return await self._ask(verbs.CLAIM, execution_id, claim)

    def confirm_claim_sync(self, execution_id: str, claim: str) -> int:
        """Twin of :meth:`confirm_claim`."""
        return self._ask_sync(verbs.CLAIM, execution_id, claim)

    def own_claim(self, execution_id: str) -> OwnedExecution | None:
        """The claim under which this process saves to an execution; None: it has none yet."""
        return self.open_handle().owned.get(execution_id)

    def claim_state(self, execution_id: str, owned: OwnedClaim) -> ClaimState:
        """How a claim of this process appears in the shared indexes at this moment."""
        handle = self.open_handle()
        known = handle.owned.get(execution_id)
        if known is not None and known is not owned:
            return ClaimState.REPLACED
        index = None if handle.journal is None else handle.journal.index
        if known is None or index is None or not index.owns(owned.slot, owned.key):
            return ClaimState.DISPLACED
        slot = index.get(owned.key)
        if slot is None or slot.claim != owned.claim or slot.superseded:
            return ClaimState.MARKED
        return ClaimState.HELD

    def others_enter(self, execution_id: str) -> bool:
        """Whether another process may be taking the execution over at this moment, or has died
        while it did so.

        Raises:
            JournalError: another journal cannot be opened for now.
        """
        handle = self.open_handle()
        return handle.cache.entering(execution_id, handle.open_journal().id)

    # -- recorded programs --

    def run(self, execution_id: str, **settings: Unpack[RunKeywords]) -> Run:
        """A program whose calls are recorded: ``async with engine.run("run-1") as run: ...``.

        It resumes what is recorded under that id; see :class:`~livingai.runs.run.Run`. Keywords are
        those of :class:`~livingai.runs.policy.RunSettings`, above all ``resolver`` (decides about
        tools in doubt) and ``exclusive`` (several machines).

        Raises:
            ConfigurationError: a setting that cannot work; the rest when the run is entered:
            FencedError, ServiceUnavailableError, and what :meth:`save` raises.
        """
        # Here, not above: importing runs adds a fifth to the import time of this module, and most
        # engines only save.
        from livingai.runs.run import Run  # noqa: PLC0415

        return Run(self, execution_id, make_settings(settings))

    def run_sync(self, execution_id: str, **settings: Unpack[RunKeywords]) -> SyncRun:
        """Twin of :meth:`run`: ``with engine.run_sync("run-1") as run: ...``."""
        from livingai.runs.run import SyncRun  # noqa: PLC0415 - as in run()

        return SyncRun(self, execution_id, make_settings(settings))


class _Room:
    """Waiting for room in a full journal: there may be some once the oldest write is stored."""

    def __init__(self, handle: DirectoryHandle, config: EngineConfig) -> None:
        self.write_through = config.on_full == "write_through"
        self._handle = handle
        self._deadline = time.monotonic() + config.on_full_timeout_s

    def look(self) -> tuple[Receipt | None, float]:
        """The oldest write, and for how many seconds at most to wait for it; 0: no longer."""
        self._handle.connection.hurry()
        oldest = self._handle.pending.oldest()
        left = _LOOK_S if self.write_through else self._deadline - time.monotonic()
        return oldest.receipt if oldest is not None else None, min(_LOOK_S, left)


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
