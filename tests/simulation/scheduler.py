"""Actors that take turns: one runs at a time, until a point where the scheduler takes over.

A point is every failpoint of the product, every operation on memory that processes share, and every
wait. Which actor goes on is drawn from a seed, so a run can be repeated exactly.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time as real_time
from asyncio import tasks
from collections import Counter
from collections.abc import Callable
from typing import Any

from greenlet import greenlet

from livingai.queue.lock import OwnerLock

#: Failpoints at which the disk may fail.
IO = frozenset({
    "patch.before_base", "journal.before_append", "journal.after_append", "journal.before_fsync",
    "rotate.after_create", "journal.before_recycle", "journal.after_rename",
    "dispatcher.before_cursor",
})  # fmt: skip


class Clock:
    """Virtual time, in the place of the module ``time``: each look costs a little, and the wall
    clock of a process may be wrong."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000
        #: What the wall clock of the running process is wrong by, in ns.
        self.skew_ns = 0

    def monotonic_ns(self) -> int:
        """As ``time.monotonic_ns``."""
        self.now_ns += 500
        return self.now_ns

    def monotonic(self) -> float:
        """As ``time.monotonic``."""
        return self.monotonic_ns() / 1e9

    perf_counter = thread_time = process_time = monotonic
    perf_counter_ns = thread_time_ns = monotonic_ns

    def time_ns(self) -> int:
        """As ``time.time_ns``."""
        return 1_700_000_000_000_000_000 + self.monotonic_ns() + self.skew_ns

    def time(self) -> float:
        """As ``time.time``."""
        return self.time_ns() / 1e9

    def __getattr__(self, name: str) -> Any:
        return getattr(real_time, name)


class Process:
    """A simulated process: actors that die together."""

    def __init__(self, name: str, skew_ns: int = 0) -> None:
        self.name = name
        self.skew_ns = skew_ns
        self.alive = True
        self.actors: list[Actor] = []
        #: Locks that its actors have taken; the kernel gives them back when it dies.
        self.locks: list[OwnerLock] = []
        #: So many steps that do I/O go on; then one fails. -1: none does.
        self.sound_steps = -1


class Actor:
    """One thread of a process."""

    def __init__(
        self, name: str, process: Process, body: Callable[[], None], hub: greenlet
    ) -> None:
        self.name = name
        self.process = process
        self.body = greenlet(body, hub)
        #: What it waits for; None: it can go on.
        self.waits: Callable[[], object] | None = None
        #: Its event loop, if it is inside one, and the task of it that runs.
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[Any] | None = None
        #: How often it gets its turn, compared with others.
        self.weight = 1.0
        #: Its process dies when it has been at so many more points; -1: it does not.
        self.doom = -1

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.body.dead)


class Scheduler:
    """Gives turns."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.chance = random.Random(seed)
        self.clock = clock
        self.running: Actor | None = None
        self.actors: list[Actor] = []
        self.steps = 0
        #: How often each point was reached.
        self.points: Counter[str] = Counter()
        #: The probability that an actor goes on at a point.
        self.stay = 0.5
        #: Called when a record was published.
        self.published: Callable[[], None] = lambda: None
        #: Actors whose process is to die where they are, and the place.
        self.doomed: list[tuple[Actor, str]] = []
        #: Bodies of dropped actors: what is after the point where they were is never run, as a
        #: killed process runs nothing any more.
        self._dropped: list[greenlet] = []
        self._hub = greenlet.getcurrent()
        #: How long the steps take, in ns.
        self._pace = self.chance.choices(
            (1_000, 100_000, 1_000_000, 10_000_000), (60, 30, 20, 3), k=64
        )

    @property
    def now(self) -> int:
        """A number that grows with every step and every look."""
        return self.clock.monotonic_ns() // 100

    def spawn(self, name: str, process: Process, body: Callable[[], None]) -> Actor:
        """A new actor."""
        actor = Actor(name, process, body, self._hub)
        actor.weight = self.chance.choice((0.02, 0.3, 1.0, 1.0))
        process.actors.append(actor)
        self.actors.append(actor)
        return actor

    def kill(self, process: Process) -> None:
        """SIGKILL."""
        process.alive = False
        for lock in process.locks:
            lock.release()
        for actor in process.actors:
            if not actor.over:
                self._dropped.append(actor.body)
        self.actors = [actor for actor in self.actors if actor.process is not process]

    def point(self, name: str) -> None:
        """The running actor is at a place where another one may come in between."""
        if self.running is None:
            return
        self.points[name] += 1
        actor = self.running
        if actor.doom >= 0:
            actor.doom -= 1
            if actor.doom < 0:
                self.doomed.append((actor, name))
                self._hub.switch()
        if self.chance.random() >= self.stay:
            self._hub.switch()

    def failpoint(self, name: str) -> None:
        """The running actor is at a failpoint of the product. Raises OSError if the disk fails."""
        actor = self.running
        if actor is not None and name in IO and actor.process.sound_steps >= 0:
            actor.process.sound_steps -= 1
            if actor.process.sound_steps < 0:
                self.points[f"error {name}"] += 1
                raise OSError(errno.EIO, f"the disk fails at {name}")
        self.point(name)

    def wait(self, until: Callable[[], object]) -> None:
        """The running actor goes on once ``until()`` is true."""
        actor = self.running
        assert actor is not None
        while not until():
            actor.waits = until
            self._hub.switch()
        actor.waits = None

    def step(self) -> bool:
        """Give one actor a turn; False: all wait."""
        able = [actor for actor in self.actors if actor.waits is None or actor.waits()]
        if not able:
            return False
        self.steps += 1
        self.clock.now_ns += self._pace[self.steps & 63]
        left = self.chance.random() * sum(actor.weight for actor in able)
        for actor in able:
            left -= actor.weight
            if left <= 0:
                break
        self._run(actor)
        return True

    def _run(self, actor: Actor) -> None:
        self.running = actor
        self.clock.skew_ns = actor.process.skew_ns
        if actor.loop is not None:
            asyncio._set_running_loop(actor.loop)
            if actor.task is not None:
                tasks._enter_task(actor.loop, actor.task)
        try:
            actor.body.switch()
        finally:
            self.running = None
            actor.loop = asyncio._get_running_loop()
            if actor.loop is not None:
                actor.task = tasks.current_task(actor.loop)
                if actor.task is not None:
                    tasks._leave_task(actor.loop, actor.task)
                asyncio._set_running_loop(None)
        if actor.over:
            self.actors.remove(actor)
            actor.process.actors.remove(actor)


class SimLock:
    """A lock between the threads of a simulated process."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False

    def locked(self) -> bool:
        """Whether a thread holds it."""
        return self._held

    def __enter__(self) -> None:
        if self._held:
            self._scheduler.wait(lambda: not self._held)
        self._held = True

    def __exit__(self, *exc: object) -> None:
        self._held = False
