"""Journals of owners that have died: noticed, read to their end, kept for the cache, removed."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import time
from typing import Final

from livingai.failpoint import failpoint
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import owner_alive
from livingai.queue.tally import ServiceTally
from livingai.workers.dispatcher.feed import Feed
from livingai.workers.dispatcher.intake import Intake

_log = logging.getLogger("livingai.service")
#: Drained journals of dead owners that are kept for the hot cache.
_MAX_RETIRED: Final = 32
#: Seconds between two checks whether owners are alive.
_OWNER_CHECK_S: Final = 1.0
#: Remains of a journal that was being made or removed are litter after this time.
_LITTER_S: Final = 60.0


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


class Journals:
    """Looks after the journals of a state directory, from their owner's death to their removal."""

    def __init__(
        self,
        directory: StateDirectory,
        intake: Intake,
        cache_bytes: int,
        tally: ServiceTally | None = None,
    ) -> None:
        """``cache_bytes``: size of all drained journals of dead owners that are kept; ``tally``
        forgets those that are removed."""
        self._tally = tally
        self._directory = directory
        self._intake = intake
        self._cache_bytes = cache_bytes
        self._checked = 0.0
        self._sweep_litter()

    def look(self, *, now: bool = False) -> bool:
        """Find new journals, and try again to move cursors that could not be moved. Once in a
        while, or ``now``, check all owners too, and remove what exceeds the cache; whether that was
        done."""
        self._intake.refresh()
        for feed in self._intake.feeds.values():
            feed.pass_done()  # what owners have waited
            feed.advance()  # what could not be written before
        if self._tally is not None:
            self._tally.write()
        began = time.monotonic()
        if not now and began - self._checked < _OWNER_CHECK_S:
            return False
        self._checked = began
        for feed in list(self._intake.feeds.values()):
            self.check_owner(feed)
        self._retire_old()
        return True

    def check_owner(self, feed: Feed) -> None:
        """See whether a journal's owner is alive; the files of one that died are synced."""
        alive = feed.alive
        feed.check_owner()
        if alive and not feed.alive:
            asyncio.get_running_loop().run_in_executor(None, feed.sync)

    def _retire_old(self) -> None:
        """Remove drained journals of dead owners, oldest first, beyond what the cache may hold."""
        retired = sorted(
            (feed for feed in self._intake.feeds.values() if feed.finished),
            key=lambda feed: feed.retired_at,
            reverse=True,
        )
        held = 0
        for number, feed in enumerate(retired):
            held += feed.size_bytes()
            if number >= _MAX_RETIRED or held > self._cache_bytes or feed.gone:
                self._remove(feed)

    def _remove(self, feed: Feed) -> None:
        feed.pass_done()
        if self._tally is not None:
            self._tally.write()
        failpoint("dispatcher.before_retire")
        del self._intake.feeds[feed.path]
        try:
            feed.close(remove=True)
        except OSError as error:
            _log.warning("the journal %s cannot be removed: %s", feed.path, error)
        else:
            if self._tally is not None:
                self._tally.forget(feed.journal_id)

    def retire_all(self) -> list[str]:
        """The service ends: remove all drained journals of dead owners. The result are the journals
        whose owners live, and may be closing them now; see :mod:`livingai.queue.removal`."""
        for feed in list(self._intake.feeds.values()):
            feed.check_owner()
            self._intake.read_ahead(feed)
            if feed.finished:
                self._remove(feed)
        feeds = self._intake.feeds.values()
        return [feed.path for feed in feeds if feed.alive and not feed.damage]

    def _sweep_litter(self) -> None:
        """Remove what a crash left of journals that were being made or removed."""
        folder = self._directory.journals
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
