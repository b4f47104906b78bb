"""The simulated service of a host: a real dispatcher, with writers, reader and compressors that are
actors."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import LivingAIError, ServiceUnavailableError
from livingai.protocol.frames import REVISION, frame, parse
from livingai.queue.directory import StateDirectory
from livingai.workers import compressor
from livingai.workers.dispatcher import dispatcher as dispatcher_module
from livingai.workers.dispatcher.agent_connection import Agent, Peer
from livingai.workers.dispatcher.dispatcher import Dispatcher
from livingai.workers.dispatcher.feed import Item
from livingai.workers.dispatcher.store_link import Backoff
from livingai.workers.store.reader import ReaderRole
from livingai.workers.store.role import Role
from livingai.workers.store.writer import WriterRole
from tests.simulation.agent import CONFIG, SimSocket
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.store import SimStore


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop with virtual time; it is turned once per turn of its actor."""

    scheduler: Scheduler

    def time(self) -> float:
        return self.scheduler.clock.now_ns / 1e9

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *arguments: Any
    ) -> Any:
        """At once: there are no threads."""
        done = self.create_future()
        done.set_result(func(*arguments))
        return done

    def drop(self) -> None:
        """Its process has been killed."""
        for each in (self._selector, self._ssock, self._csock):  # type: ignore[attr-defined]
            each.close()


class SimTransport:
    """The service's end of a connection."""

    def __init__(self, sock: SimSocket) -> None:
        self._sock = sock

    def write(self, data: bytes) -> None:
        """Bytes for the agent."""
        if not self._sock.closed:
            self._sock.inbox.append(bytes(data))

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._sock.closed

    def get_write_buffer_size(self) -> int:
        """Agents read at once."""
        return 0

    def pause_reading(self) -> None:
        """Never necessary."""

    resume_reading = pause_reading

    def close(self) -> None:
        """The service's end."""
        self._sock.closed = True


class SimWorker:
    """One life of a writer or reader, as the dispatcher sees it."""

    revision = REVISION

    def __init__(self, link: SimLink, role: Role) -> None:
        self._link = link
        self._role = role
        self.process = Process(link.name)
        self.ended = False
        #: What it was asked, in order: it does one thing after the other.
        self._futures: list[asyncio.Future[Any]] = []

    @property
    def busy(self) -> bool:
        """Whether it is at work."""
        return bool(self.process.actors)

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """As :meth:`StoreProcess.ask`."""
        if self.ended:
            raise ServiceUnavailableError("it is gone")
        service = self._link.service
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        sent = parse(frame(verb, list(arguments))[4:])
        life = service.life

        def work() -> None:
            result, failure = None, None
            service.scheduler.wait(lambda: self._futures[0] is future)
            try:
                result = self._role.handle(sent[0], sent[1])
            except LivingAIError as error:
                failure = error
            self._futures.remove(future)
            if service.life != life or future.done():
                return
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(parse(frame(result)[4:])[0])

        actor = service.scheduler.spawn(self._link.name, self.process, work)
        if self._link.name == "writer":
            actor.doom, service.doom = service.doom, -1
        return await future

    def die(self) -> None:
        """SIGKILL."""
        self.ended = True
        self._link.service.scheduler.kill(self.process)
        for future in self._futures:
            if not future.done():
                future.set_exception(ServiceUnavailableError("it died"))
        self._link.service.dirty = True


class SimLink:
    """In the place of a :class:`StoreLink`."""

    trouble = ""
    pid = 1

    def __init__(self, service: SimService, name: str, role: Callable[[], Role]) -> None:
        self.service = service
        self.name = name
        self._role = role
        self.life: SimWorker | None = None

    async def worker(self) -> SimWorker:
        """As :meth:`StoreLink.worker`."""
        if self.life is None or self.life.ended:
            self.life = SimWorker(self, self._role())
        return self.life

    async def call(self, verb: str, *arguments: Any) -> Any:
        """As :meth:`StoreLink.call`."""
        return await (await self.worker()).ask(verb, *arguments)


class SimPool:
    """In the place of a :class:`CompressorPool`."""

    where = "simulated"
    #: The service whose dispatcher is being made.
    making: SimService

    def __init__(self, processes: int, codec: str, done: Any, *, careful: bool = False) -> None:
        self._codec = codec
        self._done = done
        self._queue: list[Item] = []
        self._service = self.making
        self.process = Process("compressors")

    def add(self, item: Item) -> None:
        """A record is to be encoded."""
        self._queue.append(item)

    def flush(self) -> None:
        """All that was added goes on its way."""
        queue, self._queue = self._queue, []
        for item in queue:
            self._service.scheduler.spawn("compressor", self.process, self._work(item))

    def _work(self, item: Item) -> Callable[[], None]:
        life, loop, task = self._service.life, asyncio.get_running_loop(), item.task()

        def work() -> None:
            (result,) = compressor.encode_tasks([task], self._codec)
            if self._service.life == life:
                loop.call_soon(self._done, item, result)

        return work

    def check(self) -> None:
        """All is well."""

    def pids(self) -> list[int]:
        """It has no processes."""
        return []


vars(dispatcher_module)["CompressorPool"] = SimPool


class SimService:
    """The service of one state directory, through its lives."""

    def __init__(self, directory: StateDirectory, scheduler: Scheduler) -> None:
        self.directory = directory
        self.scheduler = scheduler
        config = ServiceConfig.build(SimStore(), directory.path, CONFIG)
        #: Journals of dead owners are kept, but not many.
        self.config = replace(config, cache_bytes=16 << 10)
        #: From agents: a connection and the bytes that came; b"": it has ended.
        self.inbox: collections.deque[tuple[SimSocket, bytes]] = collections.deque()
        self.sockets: list[SimSocket] = []
        self.dirty = True
        #: That of the next batch's writer; see :class:`~tests.simulation.scheduler.Actor`.
        self.doom = -1
        self.life = 0
        self.process: Process | None = None
        self.dispatcher: Dispatcher | None = None
        self.links: list[SimLink] = []
        self.listens = False
        self._loop: SimLoop | None = None

    def start(self) -> None:
        """A new life of the dispatcher."""
        self.life += 1
        self.dirty = True
        self.process = Process(f"dispatcher {self.life}")
        self.scheduler.spawn("dispatcher", self.process, self._run)

    def die(self) -> None:
        """SIGKILL of the dispatcher. Its writer goes on for a moment, as a process does that only
        sees the end of its connection."""
        if self.process is None:
            return
        self.scheduler.kill(self.process)
        self.process = None
        self.life += 1
        self.listens = False
        for sock in self.sockets:
            sock.closed = True
        self.sockets.clear()
        self.inbox.clear()
        if self.dispatcher is not None:
            pool: Any = self.dispatcher.pool
            self.scheduler.kill(pool.process)
            with contextlib.suppress(OSError):
                self.dispatcher._ending.close()
            for feed in self.dispatcher.intake.feeds.values():
                feed.tail.close()
                feed.cursor.close()
                if feed.lock is not None:
                    feed.lock.release()
            self.dispatcher = None
        if self._loop is not None:
            self._loop.drop()
            self._loop = None

    def _run(self) -> None:
        self._loop = loop = SimLoop()
        loop.scheduler = self.scheduler
        loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        SimPool.making = self
        dispatcher = Dispatcher(self.config, self.directory)
        dispatcher._ready.set()
        for link in self.links:
            if link.life is not None:  # it ends with its connection
                link.life.ended = True
        self.links = []
        for writer in dispatcher.writers:
            writer._link = self._link("writer", lambda: WriterRole(SimStore()))  # type: ignore[assignment]
            writer._backoff = Backoff(0.0, 0.0)
        dispatcher.requests._reader = self._link("reader", lambda: ReaderRole(SimStore()))  # type: ignore[assignment]
        self.dispatcher = dispatcher
        agents: dict[SimSocket, Agent] = {}
        self.listens = True
        look_at = taken = 0
        while True:
            while self.inbox:
                self._take(dispatcher, agents, *self.inbox.popleft())
            if taken or self.dirty or dispatcher._wakeups._kicked:
                self.dirty = False
                dispatcher._wakeups.beat()
                if self.scheduler.clock.now_ns >= look_at:
                    look_at = self.scheduler.clock.now_ns + 400_000_000
                    dispatcher.look_around()
                taken = dispatcher._turn()
            if dispatcher._failure is not None:
                raise dispatcher._failure
            await asyncio.sleep(0)
            self.scheduler.point("dispatcher.turn")
            if not taken and not self._awake():
                self.scheduler.wait(self._awake)

    def _awake(self) -> bool:
        dispatcher, loop = self.dispatcher, self._loop
        assert dispatcher is not None
        assert loop is not None
        return bool(
            self.dirty or self.inbox or dispatcher._wakeups._kicked or loop._ready  # type: ignore[attr-defined]
        )

    def _link(self, name: str, role: Callable[[], Role]) -> SimLink:
        self.links.append(SimLink(self, name, role))
        return self.links[-1]

    @staticmethod
    def _take(
        dispatcher: Dispatcher, agents: dict[SimSocket, Agent], sock: SimSocket, data: bytes
    ) -> None:
        agent = agents.get(sock)
        if not data:
            if agent is not None:
                del agents[sock]
                agent.connection_lost(None)
            return
        if agent is None:
            agent = agents[sock] = Agent(dispatcher.server)
            agent._transport = SimTransport(sock)  # type: ignore[assignment]
            agent.peer = Peer(os.getpid(), os.geteuid())
            dispatcher.server.connected(agent)
        agent.data_received(data)

    def writers(self) -> list[SimWorker]:
        """The writers that are at work."""
        lives = [link.life for link in self.links if link.name == "writer" and link.life]
        return [life for life in lives if not life.ended and life.busy]

    @property
    def quiet(self) -> bool:
        """Whether all that was accepted is stored, as far as the dispatcher knows."""
        dispatcher = self.dispatcher
        return (
            dispatcher is not None
            and self.listens
            and not self._awake()
            and not dispatcher.inflight
            and not dispatcher.intake.waiting()
            and not self.writers()
        )
