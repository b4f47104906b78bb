"""One writer process and the lanes it serves: batches out, row results in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import CorruptRecordError, LivingAIError, StoreError, StoreUnavailableError
from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.patch import is_patch
from livingai.stores.base import RowStatus
from livingai.workers.dispatcher.doubt import Doubt
from livingai.workers.dispatcher.feed import Item
from livingai.workers.dispatcher.lanes import Lanes, overtaken
from livingai.workers.dispatcher.ports import BatchPort, Decided
from livingai.workers.dispatcher.spawning import Spawned
from livingai.workers.dispatcher.store_link import Backoff, StoreLink
from livingai.workers.encoding_task import AS_IT_IS
from livingai.workers.store.writer import DAMAGED, HELD, UNENCODED

_log = logging.getLogger("livingai.service")
#: A transaction holds at most this many rows and encoded bytes.
_BATCH_ROWS = 1000
_BATCH_BYTES = 16 << 20
#: After this many dead writers a batch is suspect and its rows are written one by one; a row that
#: was under way at so many deaths is quarantined (a writer may die of other causes, too). A writer
#: that does not even start says nothing about rows.
_SUSPECT_AFTER = 2
_QUARANTINE_AFTER = 10
#: So often the next older state replaces a newer one that the store has refused.
_MAX_SPARED = 2
#: Seconds after which a store that does not answer is reported.
_SILENT_S = 5.0

#: The revisions from which on a writer encodes states, knows patches, and says sizes.
_ENCODES = 2
_KNOWS_PATCHES = 3
_SAYS_SIZES = 5

_OLD_WRITER = (
    "the service runs with a newer version of livingai than the one that is installed now, whose "
    "writers do not know all records: upgrade livingai again, or nothing more is stored"
)

_MET = STATUS_CODES[OutcomeStatus.MET]
_SUPERSEDED = STATUS_CODES[OutcomeStatus.SUPERSEDED]
_FENCED = STATUS_CODES[OutcomeStatus.FENCED]


class BatchWriter:
    """Keeps one batch under way: what becomes ready meanwhile makes up the next one, so batches
    grow with the load by themselves (group commit)."""

    def __init__(self, config: ServiceConfig, port: BatchPort) -> None:
        self.lanes = Lanes()
        self._port = port
        self._link = StoreLink(config, "writer", port.kick)
        self._task: asyncio.Task[None] | None = None
        #: While it lasts nothing is written, and records wait in the journals, where they are safe.
        self.doubt = Doubt(port, lambda: self._link.call("examine"), self._note)
        self._backoff = Backoff(0.02, 1.0)
        self._closed = False
        #: When the batch under way was sent (CLOCK_MONOTONIC); 0 while there is none.
        self._sent_at = 0.0
        #: Why the store takes nothing now; "" while it does.
        self.trouble = ""
        #: The same as an error; None while it does.
        self.error: LivingAIError | None = None
        #: When the last attempt began, and the last one that failed (CLOCK_MONOTONIC).
        self._tried_ns = self._failed_ns = 0
        #: Batches that the store has committed, bytes of their states and of what it was given.
        self.commits = self.raw_bytes = self.stored_bytes = 0
        self._hurry = asyncio.Event()

    def adopt(self, spawned: Spawned) -> None:
        """Take on a writer that was started before the dispatcher was ready for it."""
        self._link.adopt(spawned)

    @property
    def pid(self) -> int | None:
        """Process id of the writer."""
        return self._link.pid

    @property
    def writing(self) -> bool:
        """Whether a batch is under way: what comes now is in a later one."""
        return self._task is not None

    async def warm(self) -> None:
        """Start the writer and connect it to the store."""
        while not self._closed:
            began_ns = self._tried_ns = time.monotonic_ns()
            try:
                await self._link.call("ready")
            except LivingAIError as error:
                self._note(error, began_ns)
                await self._pause()
            else:
                self._note(None)
                return

    def error_since(self, since_ns: int) -> LivingAIError | None:
        """Why the store took nothing when it was tried last, if that was after this time
        (CLOCK_MONOTONIC). Else it is tried at once: what was wrong may have been mended."""
        if self._failed_ns >= since_ns:
            return self.error
        if self._tried_ns < since_ns:
            self._hurry.set()
        return None

    async def _pause(self) -> None:
        """Wait before the next attempt, unless somebody waits for it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._backoff.next_s())
        self._hurry.clear()

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """Ask the writer something between two batches (it does one thing after the other).

        Raises:
            StoreDamagedError: the store is in doubt.
        """
        self.doubt.refuse()
        return await self._link.call(verb, *arguments)

    def flush(self) -> None:
        """Begin the next batch unless one is under way."""
        if self._task is None and self.doubt.error is None and not self._closed:
            batch = self._next_batch()
            if batch:
                self._task = asyncio.create_task(self._write(batch))

    def _next_batch(self) -> list[Item]:
        batch = self.lanes.batch(_BATCH_ROWS, _BATCH_BYTES)
        if len(batch) > 1 and any(item.attempts >= _SUSPECT_AFTER for item in batch):
            first = next(i for i, item in enumerate(batch) if item.attempts >= _SUSPECT_AFTER)
            rest = batch[max(first, 1) :]
            batch = batch[: max(first, 1)]
            self.lanes.put_back(rest)
            self.lanes.hold(batch)
        return batch

    async def _write(self, batch: list[Item]) -> None:
        try:
            decided = await self._commit(batch)
            if decided is not None:
                self.lanes.release(batch)
                self._port.store_answered(decided)
        except Exception as error:  # this batch would wait for ever
            self._port.fail(error)
            raise
        finally:
            self._task = None
        if decided is None:
            self._port.kick()
        else:
            self.flush()

    async def _commit(self, batch: list[Item]) -> list[Decided] | None:
        """Commit a batch; None if it has to be written again.

        Records that a later one of the batch overtakes are not sent: they are superseded if that
        one is stored, and each is written for itself if it is not.
        """
        began_ns = self._tried_ns = time.monotonic_ns()
        shadows = overtaken(batch)
        hidden = {item for items in shadows.values() for item in items}
        sent = [item for item in batch if item not in hidden]
        try:
            writer = await self._link.worker()
        except LivingAIError as error:
            await self._again(batch, error, began_ns, died=False)
            return None
        if writer.revision < _KNOWS_PATCHES and any(is_patch(item.header) for item in sent):
            await self._again(batch, StoreUnavailableError(_OLD_WRITER), began_ns, died=False)
            return None
        self._port.sent(sent)
        rows = [_request(item, writer.revision) for item in sent]
        self._sent_at = time.monotonic()
        try:
            sizes = [True] if writer.revision >= _SAYS_SIZES else []
            results = await writer.ask("commit", rows, *sizes)
        except LivingAIError as error:
            # The store's own trouble passes; anything else may be a row that breaks the writer.
            passes = isinstance(error, StoreError) and not isinstance(error, CorruptRecordError)
            await self._again(batch, error, began_ns, died=not passes)
            return None
        finally:
            self._sent_at = 0.0
        if any(status < DAMAGED for status, *_ in results):  # the store was asked
            self.commits += 1
            self._note(None)
            self._backoff.reset()
        return self._decide(batch, shadows, zip(sent, results, strict=True))

    def _decide(
        self,
        batch: list[Item],
        shadows: dict[Item, list[Item]],
        results: Iterable[tuple[Item, list[Any]]],
    ) -> list[Decided]:
        """What the writer's answer means for each record; those that are to be written again leave
        the batch."""
        decided: list[Decided] = []
        baseless: list[Item] = []
        unencoded: list[Item] = []
        again: set[Item] = set()
        for item, (status, _epoch, reason, when_ns, *sizes) in results:
            overtook = shadows.get(item, [])
            if status == RowStatus.STORED:
                decided.append((item, _MET, when_ns, ""))
                if sizes:
                    self.raw_bytes += sizes[0]
                    self.stored_bytes += sizes[1]
                decided.extend((older, _SUPERSEDED, when_ns, "") for older in overtook)
                continue
            again.update(overtook)
            if status in (UNENCODED, HELD):  # the store has not seen it
                again.add(item)
                if status == UNENCODED:
                    unencoded.append(item)
                continue
            for older in overtook:
                older.spared += 1
                # All at once: a fenced claim's are all fenced, and rows that are refused one after
                # the other must not take one commit each.
                older.firm = status == RowStatus.FENCED or older.spared >= _MAX_SPARED
            if status == RowStatus.BASE_MISSING:
                again.add(item)
                baseless.append(item)
            elif status == RowStatus.FENCED:
                decided.append((item, _FENCED, when_ns, reason or "a newer owner took over"))
            else:
                what = "damaged in the journal: " if status == DAMAGED else "refused by the store: "
                self._port.set_aside(item, what + reason)
        if again:  # in their order, and before anything that came behind them
            self.lanes.put_back([item for item in batch if item in again])
            batch[:] = [item for item in batch if item not in again]
            self._port.encode_elsewhere(unencoded)
            self._port.encode_again(baseless)
        return decided

    async def _again(
        self, batch: list[Item], error: LivingAIError, began_ns: int, *, died: bool
    ) -> None:
        """Put a batch back. One that keeps killing writers is taken apart to find the row."""
        self._note(error, began_ns)
        if died:
            for item in batch:
                item.attempts += 1
            if len(batch) == 1 and batch[0].attempts >= _QUARANTINE_AFTER:
                self.lanes.release(batch)
                what = f"it ended the writer {batch[0].attempts} times: {error}"
                self._port.set_aside(batch[0], what)
                return
        self.lanes.put_back(batch)
        if not self._closed:
            await self._pause()

    def check(self) -> None:
        """Called now and then: a store that just does not answer is trouble, too."""
        self.doubt.check(_SILENT_S)
        waits = self._sent_at and time.monotonic() - self._sent_at > _SILENT_S
        if waits and not self.trouble:
            self._note(StoreUnavailableError(f"it has not answered for {_SILENT_S:.0f} s"))

    def _note(self, error: LivingAIError | None, began_ns: int = 0) -> None:
        if error is None and self.doubt.error is not None:
            return  # a batch that was under way says nothing about the rest of the store
        self.error, self._failed_ns = error, began_ns
        text = str(error) if error is not None else ""
        if text and not self.trouble:
            _log.warning("the store takes no writes for now, trying again: %s", text)
        elif self.trouble and not text:
            _log.info("the store takes writes again")
        if text != self.trouble:
            self.trouble = text
            self._port.tell_trouble()
        if began_ns:  # who waits for this attempt may go on
            self._port.kick()

    async def close(self) -> None:
        """End the writer; a batch under way is finished or stays in the journal."""
        self._closed = True
        self._hurry.set()
        examines = self.doubt.close()
        await self._link.close()
        if under_way := [task for task in (self._task, examines) if task is not None]:
            await asyncio.wait(under_way)


def _request(item: Item, revision: int) -> list[Any]:
    """A record of a commit request (:meth:`WriterRole.do_commit`), as the writer can read it."""
    place = [item.feed.path, item.at]
    done = item.encoded
    if done is not None:
        return [*place, done.blob, done.content_hash, done.base_hash, done.sections]
    if item.patch and item.attempts < _SUSPECT_AFTER:
        return [*place, AS_IT_IS]
    # After so many deaths its encoding may be the cause.
    if item.by_writer and item.attempts < _SUSPECT_AFTER and revision >= _ENCODES:
        return [*place, item.base_at]
    return [*place, None, None, None, None]
