"""A thread that removes, now and then, what has expired."""

from __future__ import annotations

import logging
import os
import threading
import weakref

from livingai.adapters.langgraph.item_log import ItemLog
from livingai.adapters.steps import take_sync
from livingai.errors import LivingAIError

_log = logging.getLogger("livingai")


class Sweeper:
    """Sweeps one log as long as it was started. Thread-safe."""

    def __init__(self, items: ItemLog) -> None:
        self._items = items
        self._begin()
        _sweepers.add(self)
        reference = weakref.ref(self)
        items.engine.before_close(lambda seconds: _stop(reference, seconds))

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interval_s: float) -> None:
        """Sweep every so many seconds, unless it does already."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=_work, args=(self._items, self._stopping, interval_s),
                name="livingai-sweeper", daemon=True,
            )  # fmt: skip
            self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """End it; whether it has ended within ``timeout`` seconds (None: for ever)."""
        with self._lock:
            thread, stopping = self._thread, self._stopping
        stopping.set()
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()


def _work(items: ItemLog, stopping: threading.Event, interval_s: float) -> None:
    while not stopping.wait(interval_s):
        try:
            expired = take_sync(items.sweep())
        except LivingAIError as error:
            _log.warning("%s was not swept: %s", items.names.execution_id, error)
        else:
            _log.debug("%d items of %s had expired", expired, items.names.execution_id)


_sweepers: weakref.WeakSet[Sweeper] = weakref.WeakSet()


def _stop(reference: weakref.ref[Sweeper], seconds: float) -> None:
    sweeper = reference()
    if sweeper is not None:
        sweeper.stop(seconds)


def _begin_after_fork() -> None:
    """In a forked child: the thread is its parent's."""
    for sweeper in list(_sweepers):
        sweeper._begin()


os.register_at_fork(after_in_child=_begin_after_fork)
