"""What newer entries have overtaken is removed by a thread, a moment later, many items at once."""

from __future__ import annotations

import collections
import logging
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Final

from livingai.adapters.langgraph.item_log import ItemLog
from livingai.adapters.steps import take_sync
from livingai.errors import LivingAIError

_log = logging.getLogger("livingai")
#: So long changes come together before their items are cleaned (s).
_LINGER_S: Final = 0.5
#: Items that wait for it at most; more are left to later readers and to sweeps.
_MAX_WAITING: Final = 10_000
#: Of so many items it is remembered that this process has written them.
_REMEMBERED: Final = 10_000


class ItemCleaner:
    """Cleans items of one log. Thread-safe. Its thread lives as long as there is something to do;
    what the engine's end leaves is done by whoever reads the item next, or by a sweep."""

    def __init__(self, items: ItemLog) -> None:
        self._items = items
        self._begin()
        _cleaners.add(self)
        reference = weakref.ref(self)
        items.engine.before_close(lambda seconds: _end(reference, seconds))

    def _begin(self) -> None:
        self._lock = threading.Condition()
        #: Groups, in the order in which they were first named.
        self._waiting: dict[str, None] = {}
        self._written: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._sweeps = False
        self._thread: threading.Thread | None = None
        self._ending = False

    def wrote(self, groups: Iterable[str]) -> None:
        """This process has written these items: those that it had written before have something
        that is overtaken."""
        with self._lock:
            for group in groups:
                if group in self._written:
                    self._written.move_to_end(group)
                    self._wait(group)
                else:
                    self._written[group] = None
            while len(self._written) > _REMEMBERED:
                self._written.popitem(last=False)

    def found(self, groups: Iterable[str]) -> None:
        """These items have something that nobody needs."""
        with self._lock:
            for group in groups:
                self._wait(group)

    def sweep_soon(self) -> None:
        """Remove all that has expired."""
        with self._lock:
            self._sweeps = True
            self._start()

    def _wait(self, group: str) -> None:
        """With the lock held."""
        if len(self._waiting) < _MAX_WAITING:
            self._waiting[group] = None
            self._start()

    def _start(self) -> None:
        """With the lock held."""
        if self._thread is None and not self._ending:
            self._thread = threading.Thread(target=self._work, name="livingai-items", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._ending, _LINGER_S)
                groups, self._waiting = list(self._waiting), {}
                sweeps, self._sweeps = self._sweeps and not self._ending, False
                if not groups and not sweeps:
                    self._thread = None
                    return
            try:
                take_sync(self._items.clean(groups))
                if sweeps:
                    take_sync(self._items.sweep())
            except LivingAIError as error:
                _log.debug("%d items were not cleaned, which is done later: %s", len(groups), error)

    def end(self, seconds: float) -> None:
        """The engine is being closed: clean what waits, if there is time."""
        with self._lock:
            self._ending = True
            self._lock.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        with self._lock:
            self._ending = False  # the engine may be used again


_cleaners: weakref.WeakSet[ItemCleaner] = weakref.WeakSet()


def _end(reference: weakref.ref[ItemCleaner], seconds: float) -> None:
    cleaner = reference()
    if cleaner is not None:
        cleaner.end(seconds)


def _begin_after_fork() -> None:
    """In a forked child: what waited is its parent's."""
    for cleaner in list(_cleaners):
        cleaner._begin()


os.register_at_fork(after_in_child=_begin_after_fork)
