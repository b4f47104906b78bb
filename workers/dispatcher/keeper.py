"""Housekeeping of the dispatcher: dead owners, old journals, and when to go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from livingai.errors import LivingAIError
from livingai.failpoint import failpoint
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import owner_alive
from livingai.service.logfile import trim_log
from livingai.workers.dispatcher.feed import Feed

if TYPE_CHECKING:
    from livingai.workers.dispatcher.dispatcher import Dispatcher

_log = logging.getLogger("livingai.service")
#: Journals of dead owners that are kept for the hot cache.
_MAX_RETIRED = 32
#: Seconds between looks for dead owners.
_OWNER_CHECK_S = 1.0
#: Seconds that a stopping service takes to drain before it leaves the rest in the journals.
_GRACE_S = 10.0
#: Seconds that the agent which started the service may take to connect.
_WELCOME_S = 2.0
#: Seconds between two applications of the retention policy.
_RETAIN_EVERY_S = float(os.environ.get("LIVINGAI_RETAIN_EVERY_S", "60"))
#: Seconds between looks for what keeps the writers from coming up.
_LOOK_S = 0.1
#: Seconds between looks at other state directories that hold records for the store.
_ELSEWHERE_S = 2.0
#: Remains of a journal that was being made or removed are litter after this time.
_LITTER_S = 60.0


def is_journal_litter(path: str) -> bool:
    """Whether this is what a crash left of a journal that was being made or removed. Raises
    OSError."""
    name, info = os.path.basename(path), os.lstat(path)
    if not name.startswith((".gone-", ".new-")):
        return False
    if not stat.S_ISDIR(info.st_mode):
        _log.warning("%s is not what is left of a journal; it is left as it is", path)
        return False
    if name.startswith(".gone-"):
        return True
    old = time.time() - info.st_mtime > _LITTER_S
    return old and not owner_alive(os.path.join(path, OWNER_LOCK))


class Farewell(NamedTuple):
    """How a dispatcher went: the journals whose owners live on, and whether all was stored that
    was accepted before it was told to go."""

    journals: list[str]
    drained: bool


class Keeper:
    """See the module's text."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        #: Set once compressors and writers are up.
        self.ready = asyncio.Event()
        #: What waits for the store in other state directories; "" if nothing does.
        self.elsewhere = ""
        self._checked = 0.0
        self._idle_since = time.monotonic() + _WELCOME_S
        self._stop_by = 0.0
        self._place = _place(dispatcher.directory.lock)
        #: The directory itself, under whatever name.
        self._folder = os.open(dispatcher.directory.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._sweep_litter()

    def look_around(self) -> None:
        """Now and then: new journals, dead owners, caches over their size."""
        intake = self._dispatcher.intake
        intake.refresh()
        self._dispatcher.tell_trouble()
        self._dispatcher.pool.check()
        for writer in self._dispatcher.writers:
            writer.check()
        now = time.monotonic()
        if now - self._checked >= _OWNER_CHECK_S:
            self._checked = now
            for feed in list(intake.feeds.values()):
                self._check_owner(feed)
            self._retire_old()
            with contextlib.suppress(OSError):  # a full disk: later
                trim_log(self._dispatcher.directory.log)

    def owner_gone(self, feed: Feed) -> None:
        """An agent's connection ended; its journal may have lost its owner."""
        self._check_owner(feed)
        self._dispatcher.kick()

    def _check_owner(self, feed: Feed) -> None:
        alive = feed.alive
        feed.check_owner()
        if alive and not feed.alive:
            asyncio.get_running_loop().run_in_executor(None, feed.sync)

    async def retain(self) -> None:
        """Apply the retention policy now and then, for as long as the service lives."""
        policy = self._dispatcher.config.retention
        while policy:
            await asyncio.sleep(_RETAIN_EVERY_S)
            try:
                await self._dispatcher.requests.prune(dict(policy))
            except LivingAIError as error:
                _log.warning("retention failed, trying again later: %s", error)

    async def until_ready(self) -> None:
        """Wait until compressors and writers are up.

        Raises:
            StoreMismatchError, RecordsLeftError: they will not be before a person has settled it.
        """
        while not self.ready.is_set():
            if (error := self._dispatcher.misplaced) is not None:
                raise error
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ready.wait(), _LOOK_S)

    async def look_elsewhere(self) -> None:
        """Say what waits for the store in other directories of this machine, until nothing does."""
        await self.ready.wait()
        while True:
            try:
                found = str(await self._dispatcher.writers[0].ask("elsewhere"))
            except LivingAIError:
                found = self.elsewhere  # the writer says why
            if found != self.elsewhere:
                self.elsewhere = found
                if found:
                    _log.warning("%s", found)
                self._dispatcher.tell_trouble()
            if not found:
                return
            await asyncio.sleep(_ELSEWHERE_S)

    # -- old journals --

    def _retire_old(self) -> None:
        """Remove drained journals of dead owners, oldest first, beyond what the cache may hold."""
        config = self._dispatcher.config
        retired = sorted(
            (feed for feed in self._dispatcher.intake.feeds.values() if feed.finished),
            key=lambda feed: feed.retired_at,
            reverse=True,
        )
        held = 0
        for number, feed in enumerate(retired):
            held += feed.size_bytes()
            if number >= _MAX_RETIRED or held > config.cache_bytes or feed.gone:
                self._remove(feed)

    def _remove(self, feed: Feed) -> None:
        failpoint("dispatcher.before_retire")
        del self._dispatcher.intake.feeds[feed.path]
        try:
            feed.close(remove=True)
        except OSError as error:
            _log.warning("the journal %s cannot be removed: %s", feed.path, error)

    def retire_all(self) -> list[str]:
        """The service goes: leave no drained journal behind. Those whose owners live, and perhaps
        are just closing them: see :mod:`livingai.queue.removal`."""
        for feed in list(self._dispatcher.intake.feeds.values()):
            feed.check_owner()
            self._dispatcher.intake.read_ahead(feed)
            if feed.finished:
                self._remove(feed)
        feeds = self._dispatcher.intake.feeds.values()
        return [feed.path for feed in feeds if feed.alive and not feed.damage]

    def _sweep_litter(self) -> None:
        """Remove what a crash left of journals that were being made or removed."""
        folder = self._dispatcher.directory.journals
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            try:
                if not is_journal_litter(path):
                    if not name.startswith((".gone-", ".new-")) and not os.path.isdir(path):
                        _log.warning("%s is no journal; it is left as it is", path)
                    continue
                shutil.rmtree(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                _log.warning("what is left of a journal cannot be removed: %s", error)

    # -- when to go --

    def idle(self) -> bool:
        """Whether nobody needs the service: no agent, nothing on its way, for long enough. While
        records wait it stays, however long their store takes nothing: nobody else stores them."""
        dispatcher = self._dispatcher
        now = time.monotonic()
        if _place(dispatcher.directory.lock) != self._place:
            if not dispatcher.server.agents:
                _log.error("the state directory was removed: nobody can come any more")
                return True
            if (there := self._moved_to()) is not None:
                _log.error(
                    "the state directory was moved to %s: this service, which knows only its old "
                    "place, makes room for one that is started there", there
                )  # fmt: skip
                return True
        busy = (
            dispatcher.config.foreground
            or dispatcher.server.agents
            or dispatcher.inflight
            or dispatcher.intake.waiting()
        )
        if busy:
            self._idle_since = now
            return False
        if now - self._idle_since < dispatcher.config.idle_s:
            return False
        self._checked = 0.0
        self.look_around()
        for feed in dispatcher.intake.feeds.values():
            dispatcher.intake.read_ahead(feed)
        return all(feed.drained and (feed.finished or feed.alive)
                   for feed in dispatcher.intake.feeds.values())  # fmt: skip

    def _moved_to(self) -> str | None:
        """Where the directory is now if that is elsewhere; None: here, or removed."""
        try:
            there = os.readlink(f"/proc/self/fd/{self._folder}")
            moved = os.path.samestat(os.stat(there), os.fstat(self._folder))
        except OSError:
            return None
        return there if moved and there != self._dispatcher.directory.path else None

    def close(self) -> None:
        """Let go of the directory. Idempotent."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def grace_over(self) -> bool:
        """Whether a stopping service has waited long enough for the store."""
        now = time.monotonic()
        if not self._stop_by:
            self._stop_by = now + _GRACE_S
        return now >= self._stop_by


def _place(path: str) -> tuple[int, int] | None:
    """Which file this is; None if there is none."""
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None
