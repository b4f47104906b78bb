"""A simulated agent process: a real engine and handle, whose threads are actors."""

from __future__ import annotations

import collections
import itertools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from livingai import CheckpointEngine
from livingai.config import EngineConfig
from livingai.engine import handle as handle_module
from livingai.engine.cache import HotCache
from livingai.engine.connection import _NO_SERVICE, ServiceConnection
from livingai.engine.handle import DirectoryHandle
from livingai.engine.pending import OwnedExecution, PendingWrites
from livingai.engine.reconnect import Attempts
from livingai.engine.versions import ServiceVersion
from livingai.protocol.frames import FrameBuffer
from livingai.protocol.verbs import Answer, Verb
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import Journal, JournalLimits
from tests.simulation.scheduler import Process, Scheduler, SimLock
from tests.simulation.store import SimStore

if TYPE_CHECKING:
    from tests.simulation.service import SimService

#: Small, so that a few records fill a segment, a few segments the journal, and a few executions
#: the index.
LIMITS = JournalLimits(
    segment_bytes=4096, journal_bytes=12 * 4096, cache_bytes=3 * 4096, cache_ttl_s=600.0,
    index_sets=2, node_slots=4,
)  # fmt: skip


class SimConfig(EngineConfig):
    """Settings with small journals."""

    def limits(self) -> JournalLimits:
        return LIMITS


CONFIG = SimConfig(patch_from_bytes=400, on_full="raise", linger_ms=0, writers=2)


class SimSocket:
    """Both ends of a connection between an agent and the service."""

    def __init__(self, service: SimService) -> None:
        self.service = service
        #: Bytes for the agent.
        self.inbox: collections.deque[bytes] = collections.deque()
        self.closed = False

    def setblocking(self, _: bool) -> None:
        """It never blocks."""

    def send(self, data: bytes, _flags: int = 0) -> int:
        """Bytes for the service."""
        if self.closed:
            raise BrokenPipeError
        self.service.inbox.append((self, data))
        return len(data)

    def close(self) -> None:
        """The agent's end."""
        if not self.closed:
            self.closed = True
            self.service.inbox.append((self, b""))


class _Starter:
    """Nobody has to start a simulated service."""

    trouble = ""

    def connected(self) -> None:
        """A service has greeted."""


class _Syncer:
    """In the place of the thread that syncs; an actor does it."""

    def __init__(self, journal: Journal, interval_s: float) -> None:
        self.idle = False

    def close(self) -> None:
        """There is no thread."""


vars(handle_module)["Syncer"] = _Syncer


class SimConnection(ServiceConnection):
    """The real one, without a thread, a pipe and a socket."""

    def __init__(self, handle: SimHandle) -> None:
        self._directory = handle.directory
        self._starter = _Starter()  # type: ignore[assignment]
        self._store_url = SimStore().url
        self._on_outcomes = handle.pending.arrived
        self._on_connect = handle.pending.catch_up
        self._on_tick = lambda: None
        self._journal = None
        self._socket = None
        self._out = collections.deque()
        self._sending = threading.Lock()
        self._left = self._wake_due = self._stop = False
        self._requests = {}
        self._numbers = itertools.count(1)
        self._last_error = None
        self.state = "starting"
        self.connected_ns = 0
        self._told = self._own_trouble = ""
        self._version = ServiceVersion(self._starter, Attempts())
        self._words = _NO_SERVICE
        self._wake_read = self._wake_write = -1

    def talk(self, scheduler: Scheduler, service: SimService) -> None:
        """What the thread does."""
        while True:
            scheduler.wait(lambda: service.listens)
            sock: Any = SimSocket(service)
            service.sockets.append(sock)
            self._hello(sock)
            self._until_closed(sock, scheduler)
            self._disconnect(sock)

    def _until_closed(self, sock: Any, scheduler: Scheduler) -> None:
        buffer = FrameBuffer()
        while not sock.closed or sock.inbox:
            scheduler.point("agent.connection")
            if not sock.closed:
                self._flush_out(sock)
            while sock.inbox:
                for message in buffer.feed(sock.inbox.popleft()):
                    self._handle(message)
                    scheduler.point("agent.told")
            scheduler.wait(lambda: sock.inbox or sock.closed or self._out)


class SimHandle(DirectoryHandle):
    """The real one, with locks that actors can wait for."""

    def __init__(self, directory: StateDirectory, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._name = ""
        self.pid = os.getpid()
        self._store = SimStore()
        self.directory = directory
        self.config = CONFIG
        self.cache = HotCache(directory, ttl_s=CONFIG.cache_ttl_s)
        self.cache._lock = SimLock(scheduler)  # type: ignore[assignment]
        self.lock = SimLock(scheduler)  # type: ignore[assignment]
        self._opening = SimLock(scheduler)  # type: ignore[assignment]
        self.closed = False
        self.owned = {}
        self.users = 1
        self.journal = None
        self._syncer = None
        self._own = None
        self._expired_at = 0.0
        self.pending = PendingWrites(self.lock, lambda: self.connection.connected_ns)
        self.connection = SimConnection(self)
        #: Called with each claim that is made.
        self.entered: Callable[[str, int], None] = lambda _id, _claim: None

    def _check_still_ours(self, journal: Journal) -> None:
        journal.lock = SimLock(self._scheduler)  # type: ignore[assignment]
        journal._commit.lock = SimLock(self._scheduler)  # type: ignore[assignment]

    def open_journal(self) -> Journal:
        journal = super().open_journal()
        own: Any = self._own
        if not isinstance(own.lock, SimLock):
            own.lock = SimLock(self._scheduler)
        return journal

    def enter(self, execution_id: str, journal: Journal) -> OwnedExecution:
        owned = super().enter(execution_id, journal)
        self.entered(execution_id, owned.claim)
        return owned


class SimEngine(CheckpointEngine):
    """The real one; what waits for the service waits as an actor does."""

    def __init__(self, handle: SimHandle, scheduler: Scheduler) -> None:
        super().__init__(SimStore(), CONFIG, directory=handle.directory.path)
        self._handle = handle
        self._scheduler = scheduler

    def _ask_sync(self, verb: Verb[Answer], *arguments: Any) -> Answer:
        assert self._handle is not None
        asked = self._handle.connection.request(verb.name, *arguments)
        self._scheduler.wait(lambda: asked._over)
        return verb.read(asked.result(0))


class SimAgent(Process):
    """An agent process: its own code, the connection's thread, the syncer's thread."""

    def __init__(self, name: str, service: SimService, scheduler: Scheduler, skew_ns: int) -> None:
        super().__init__(name, skew_ns)
        self.service = service
        self.scheduler = scheduler
        self.handle = SimHandle(service.directory, scheduler)
        self.engine = SimEngine(self.handle, scheduler)
        self.handle.open_journal()
        scheduler.spawn(f"{name}.connection", self, self._connect)

    def _connect(self) -> None:
        assert isinstance(self.handle.connection, SimConnection)
        self.handle.connection.talk(self.scheduler, self.service)

    def sync(self) -> None:
        """What the syncer's thread does, once; and what the connection's thread does now and
        then."""
        journal = self.handle.journal
        assert journal is not None
        journal.sync()
        self.scheduler.point("agent.synced")
        journal.expire()

    def die(self) -> None:
        """SIGKILL: the kernel gives back what it held."""
        self.scheduler.kill(self)
        assert self.handle.journal is not None
        sock: Any = self.handle.connection._socket
        if sock is not None:
            sock.close()
        self.handle.journal.abandon()
        if self.handle._own is not None:
            self.handle._own.close()
        self.handle.cache._views.close()
