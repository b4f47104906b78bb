"""The dispatcher: tails the journals, has records encoded and written, and reports outcomes.

A crash at any point loses nothing: records behind the cursor are taken again, those with an outcome
word (:mod:`livingai.workers.dispatcher.outcomes`) are skipped, the others are committed again,
which changes nothing in the store. So an unexpected error ends the process, and the supervisor
starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine
from typing import Any

from livingai._version import __version__
from livingai.codecs import Codec
from livingai.config import ServiceConfig
from livingai.errors import LivingAIError, RecordsLeftError, StoreMismatchError
from livingai.failpoint import failpoint
from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.protocol.status import ServicePids, ServiceStatus
from livingai.protocol.watched import WatchedPage
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import Flag
from livingai.queue.patch import is_patch
from livingai.queue.record import RecordHeader
from livingai.queue.tally import open_service_tally
from livingai.service.logfile import trim_log
from livingai.workers.dispatcher.agent_connection import Agent
from livingai.workers.dispatcher.barriers import Barriers
from livingai.workers.dispatcher.batches import BatchWriter
from livingai.workers.dispatcher.compressor_pool import CompressorPool
from livingai.workers.dispatcher.delta_bases import MAX_CHAIN, MIN_CHAIN, Bases
from livingai.workers.dispatcher.elsewhere import Elsewhere
from livingai.workers.dispatcher.ending import Ending, Farewell
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.flow import flow_through
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.journals import Journals
from livingai.workers.dispatcher.outcomes import Outcomes
from livingai.workers.dispatcher.requests import Requests
from livingai.workers.dispatcher.server import AgentServer
from livingai.workers.dispatcher.wakeups import Wakeups
from livingai.workers.encoding import is_quick
from livingai.workers.encoding_task import EncodingResult

_log = logging.getLogger("livingai.service")
#: Records and raw bytes on their way at once.
_MAX_INFLIGHT = 8192
_MAX_INFLIGHT_BYTES = 128 << 20
#: States smaller than this are stored as they are.
_ENCODE_FROM_BYTES = 1024
_FENCED = STATUS_CODES[OutcomeStatus.FENCED]
#: Seconds between looks for lost wake-ups, new journals and dead owners.
_POLL_S = 0.2
#: Seconds between two looks at what keeps the writers from coming up.
_LOOK_S = 0.1


class Dispatcher:
    """One per state directory; lives in the event loop of its process."""

    def __init__(self, config: ServiceConfig, directory: StateDirectory, deaths: int = 0) -> None:
        """``deaths``: how many dispatchers have died here lately."""
        self.config = config
        self.directory = directory
        self.started_at = time.time()
        self._tally = open_service_tally(directory)
        self.intake = Intake(directory, self._tally)
        self.server = AgentServer(directory, config, self.intake, self)
        self.barriers = Barriers(self.intake, self)
        self.outcomes = Outcomes(directory.quarantine, self.intake, self.server, self)
        store = config.spec().build()
        self.store_url = store.url
        self._examines = store.capabilities.examines
        self._bases = Bases(MAX_CHAIN if store.capabilities.embedded else MIN_CHAIN)
        self.inflight = 0
        self.inflight_bytes = 0
        #: Turns of the main loop so far.
        self._turns = 0
        #: The last turn has left records in the journals, for want of room.
        self._full = False
        #: Set while ending: done once what was accepted before is terminal.
        self._drained: asyncio.Future[bool] | None = None
        self._failure: BaseException | None = None
        self._told_trouble = ""
        self.pool = CompressorPool(
            config.compressors,
            config.codec,
            self._encoded,
            careful=deaths > 0,
        )
        self.writers = [BatchWriter(config, self) for _ in range(config.writers)]
        self.requests = Requests(config, self)
        self._journals = Journals(directory, self.intake, config.cache_bytes, self._tally)
        self._ending = Ending(directory, config, self.intake, self)
        self._elsewhere = Elsewhere(self.writers[0].ask, self.tell_trouble)
        #: Set once the writers are up, and the compressors unless they start when needed.
        self._ready = asyncio.Event()
        self._wakeups = Wakeups(directory, _POLL_S, config.linger_ms / 1000)

    # -- turns --

    @property
    def trouble(self) -> str:
        """Why writes are not stored now, what keeps dying, or what waits elsewhere; "" if all is
        well."""
        other = self.intake.unreadable.trouble or self.requests.trouble or self._elsewhere.trouble
        return self._store_trouble or other

    @property
    def _store_trouble(self) -> str:
        """Why the store takes no writes now; "" while it does."""
        return next((writer.trouble for writer in self.writers if writer.trouble), "")

    def misplaced(self, since_ns: int) -> LivingAIError | None:
        """The error if the store is not the one which the directory's records were accepted for, or
        if others wait for it elsewhere: then nothing is stored before a person has settled it. It
        was so after ``since_ns`` (CLOCK_MONOTONIC)."""
        kinds = StoreMismatchError | RecordsLeftError
        found = [writer for writer in self.writers if isinstance(writer.error, kinds)]
        return next(filter(None, (writer.error_since(since_ns) for writer in found)), None)

    def tell_trouble(self) -> None:
        """Report to the agents that trouble has come, changed or passed."""
        if self.trouble != self._told_trouble:
            self._told_trouble = self.trouble
            self.server.tell_trouble(self.trouble)

    def kick(self) -> None:
        """Something may have changed: take another turn."""
        self._wakeups.kick()

    def appended(self) -> None:
        """An agent has appended something, and says so."""
        self._wakeups.appended()

    def stop(self, *, drain: bool = True) -> None:
        """End: with ``drain`` once what was accepted before is stored, else at once. Idempotent."""
        if self._drained is None:
            self._drained = asyncio.ensure_future(self._drain())
            self._drained.add_done_callback(lambda _: self.kick())
        if not drain:
            self._drained.cancel()
        self.kick()

    async def _drain(self) -> bool:
        try:
            await self.barriers.passed(None)
        except LivingAIError as error:
            _log.error("stopping without all writes stored: %s", error)
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """Something unexpected has happened: :meth:`run` raises it."""
        self._failure = error
        self.kick()

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something beside the turns; if it fails, so does the dispatcher."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.fail(error)

        task = asyncio.create_task(work)
        task.add_done_callback(ended)
        return task

    async def run(self) -> Farewell:
        """Serve until asked to stop, or until idle."""
        await self.server.start()
        retain = self.requests.retain(self.config.retention)
        beside = [*map(self._background, (self._warm(), retain, self._look_elsewhere()))]
        look_at = 0.0
        while not self._over():
            now = self._wakeups.beat()
            if now >= look_at:
                look_at = now + _POLL_S
                self.look_around()
            await self._wakeups.after_turn(self._turn())
        for task in beside:
            task.cancel()
        return await self._shut_down()

    async def _warm(self) -> None:
        # The writers first: nothing is stored without them, and what starts takes all cores.
        await asyncio.gather(*(writer.warm() for writer in self.writers))
        if self.config.foreground:  # whoever has started it waits for that
            await self.pool.warm()
        self._ready.set()

    async def _look_elsewhere(self) -> None:
        await self._ready.wait()
        await self._elsewhere.watch()

    def _over(self) -> bool:
        if self._failure is not None:
            raise self._failure
        if self._drained is not None:
            return self._drained.done() or self._ending.grace_over()
        return self._ending.displaced() or self._ending.idle()

    def _turn(self) -> int:
        """Take what is there and hand it on; how many records that were."""
        self._turns += 1
        taken = 0
        room = _MAX_INFLIGHT - self.inflight
        if self.inflight_bytes < _MAX_INFLIGHT_BYTES:
            for item in self.intake.take(room):
                taken += 1
                self._dispatch(item)
                if self.inflight_bytes >= _MAX_INFLIGHT_BYTES:
                    break
        self._full = taken >= room or self.inflight_bytes >= _MAX_INFLIGHT_BYTES
        failpoint("intake.after_read")
        self.outcomes.set_damage_aside()
        self.pool.flush()
        for writer in self.writers:
            writer.flush()
        self.outcomes.tell()
        self.barriers.check()
        return taken

    def _dispatch(self, item: Item) -> None:
        if self.outcomes.known(item):
            return
        header = item.header
        self.inflight += 1
        self.inflight_bytes += header.length
        if item.overtaken:
            self.outcomes.settle(item, _FENCED, time.monotonic_ns(), "a newer owner took over")
            return
        if self._ready.is_set():  # what waits for the service's start says nothing
            item.began = self._wakeups.began
        encode = (
            bool(header.flags & Flag.STATE)
            and (header.state_len >= _ENCODE_FROM_BYTES or self._has_to_do_with_patches(header))
            and self.config.codec != "raw"
        )
        if encode and is_patch(header) and self.config.codec == "auto":
            self._bases.choose_patch(item)
            encode = False
        if encode:
            self._bases.choose(item)
            item.by_writer = self._is_quick(item, slow=item.slow)
        item.ready = item.by_writer or not encode
        self.writer_of(header.execution_hash).lanes.add(item)
        if not item.ready:
            self.pool.add(item)

    @staticmethod
    def _has_to_do_with_patches(header: RecordHeader) -> bool:
        return is_patch(header) or bool(header.flags & Flag.BASE)

    def _is_quick(self, item: Item, *, slow: bool) -> bool:
        if is_patch(item.header):  # of a large state, which has to be rebuilt
            return False
        size, based = item.header.state_len, item.base_at > 0
        return is_quick(size, based=based, slow=slow, codec=self.config.codec)

    def writer_of(self, key: int) -> BatchWriter:
        """The lane that writes the execution with this hash."""
        return self.writers[key % len(self.writers)]

    def _encoded(self, item: Item, encoded: EncodingResult | None) -> None:
        """The pool has encoded a record; None: store it raw."""
        if item.done:
            return
        writer = self.writer_of(item.header.execution_hash)
        if encoded is not None and encoded.error:
            writer.lanes.discard(item)
            self.outcomes.set_aside(item, encoded.error)
        else:
            item.encoded = encoded
            if item.slow and encoded is not None and encoded.blob[0] == Codec.DELTA:
                self._bases.note_slow(item, slow=False)
            writer.lanes.mark_ready(item)
        writer.flush()
        self.outcomes.tell()

    def encode_again(self, items: list[Item]) -> None:
        """The store has not got the base of these records: encode them without one."""
        for item in items:
            self._bases.whole(item)
            item.ready = False
            self.pool.add(item)
        self.pool.flush()

    def encode_elsewhere(self, items: list[Item]) -> None:
        """The writer has left these records to the compressors. It would do so with what is like
        them and waits behind them, one by one."""
        for item in items:
            self._bases.note_slow(item, slow=True)
            key = item.header.execution_hash
            for each in self.writer_of(key).lanes.behind(key):
                if each is item or (each.by_writer and not self._is_quick(each, slow=True)):
                    each.slow = True
                    each.by_writer = each.ready = False
                    self.pool.add(each)
        self.pool.flush()

    def sent(self, items: list[Item]) -> None:
        """These records go to the store now: what comes later may build on them."""
        for item in items:
            if item.header.flags & Flag.STATE:
                self._bases.sent(item)

    # -- what the parts ask for (see ports.py) --

    @property
    def has_agents(self) -> bool:
        """Whether a process is connected that does not only look on."""
        agents = self.server.agents
        return any(agent.journal is not None or not agent.looks_on for agent in agents)

    def look_around(self, *, now: bool = False) -> None:
        """Look for new journals and writers that do not answer; once in a while, or ``now``, for
        dead owners too."""
        checked = self._journals.look(now=now)
        self.tell_trouble()
        self.pool.check()
        for writer in self.writers:
            writer.check()
        if checked:
            with contextlib.suppress(OSError):  # a full disk: later
                trim_log(self.directory.log)

    def owner_gone(self, feed: Feed) -> None:
        """A journal's owner has disconnected; it may have died."""
        self._journals.check_owner(feed)
        self.kick()

    def has_older(self, key: int, since_ns: int) -> bool:
        """See :meth:`.lanes.Lanes.has_older`."""
        return self.writer_of(key).lanes.has_older(key, since_ns)

    async def passed(self, key: int | None) -> None:
        """See :meth:`.barriers.Barriers.passed`."""
        await self.barriers.passed(key)

    def doubt(self, error: LivingAIError) -> None:
        """The store was found damaged. One that cannot be examined is not doubted: nothing would
        end that, and a read says nothing about what else it can do."""
        if self._examines:
            for writer in self.writers:
                writer.doubt.begin(error)

    def refuse_in_doubt(self) -> None:
        """See :meth:`.doubt.Doubt.refuse`."""
        for writer in self.writers:
            writer.doubt.refuse()

    async def ask_writer(self, key: int, verb: str, *arguments: Any) -> Any:
        """Ask the writer of the execution with hash ``key``."""
        return await self.writer_of(key).ask(verb, *arguments)

    async def answer(self, agent: Agent, number: int, verb: str, arguments: list[Any]) -> None:
        """See :meth:`.requests.Requests.answer`."""
        await self.requests.answer(agent, number, verb, arguments)

    async def until_ready(self) -> None:
        """Wait until the writers are up, and the compressors unless they start when needed.

        Raises:
            StoreMismatchError, RecordsLeftError: they will not be before a person acts.
        """
        since_ns = time.monotonic_ns()
        while not self._ready.is_set():
            if (error := self.misplaced(since_ns)) is not None:
                raise error
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), _LOOK_S)

    def status(self) -> ServiceStatus:
        """What the service is doing now."""
        feeds = self.intake.feeds.values()
        return ServiceStatus(
            store=self.store_url,
            version=__version__,
            served=self.config.served,
            foreground=self.config.foreground,
            compression=self.pool.where,
            started_at=self.started_at,
            pids=ServicePids(
                supervisor=os.getppid(),
                dispatcher=os.getpid(),
                writers=tuple(writer.pid for writer in self.writers),
                compressors=tuple(self.pool.pids()),
                **self.requests.pids(),
            ),
            agents=sum(agent.journal is not None for agent in self.server.agents),
            journals=len(feeds),
            journals_of_dead_owners=sum(not feed.alive for feed in feeds),
            inflight=self.inflight,
            inflight_bytes=self.inflight_bytes,
            batches=sum(writer.writing for writer in self.writers),
            outcomes={str(s): count for s, count in self.outcomes.counts.items()},
            trouble=self.trouble,
            flow=flow_through(list(feeds), self.writers),
            store_trouble=self._store_trouble,
            turns=self._turns,
        )

    async def watched(self, number: int, wait_s: float) -> WatchedPage:
        """See :meth:`.watch.Watch.after`."""
        return await self.outcomes.watch.after(number, wait_s)

    # -- outcomes --

    def set_aside(self, item: Item, reason: str) -> None:
        """See :meth:`.outcomes.Outcomes.set_aside`."""
        self.outcomes.set_aside(item, reason)

    def settled(self, item: Item, *, stored: bool) -> None:
        """A record has its outcome."""
        self.inflight -= 1
        self.inflight_bytes -= item.header.length
        if item.began:
            self._wakeups.stored(item.began, time.monotonic())
        if not stored:
            self._bases.forget(item)

    def store_answered(self, batch: list[tuple[Item, int, int, str]]) -> None:
        """Rows of a batch have been decided: (record, outcome code, commit time ns, reason)."""
        for item, status, when_ns, reason in batch:
            self.outcomes.settle(item, status, when_ns, reason)
        self.outcomes.tell()
        self.barriers.check()
        if self._full:
            self.kick()

    # -- end --

    async def _shut_down(self) -> Farewell:
        self.server.close()
        await asyncio.gather(*(writer.close() for writer in self.writers), self.requests.close())
        self.pool.close()
        self.outcomes.set_damage_aside()
        left = self._journals.retire_all()
        self.intake.close()
        if self._tally is not None:
            self._tally.close()
        self._ending.close()
        self._wakeups.close()
        asked = self._drained
        drained = asked is None or (asked.done() and not asked.cancelled() and asked.result())
        return Farewell(left, drained=drained)
