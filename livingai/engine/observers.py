"""Observers of outcomes: the one place that every terminal outcome of an engine passes.

The service level (:mod:`.sla`) is the first observer; metrics and programs add theirs with
:meth:`livingai.CheckpointEngine.observe`.

Rules:

1. An observer is called exactly once for each write of its engine whose outcome becomes known
   while it observes, once the receipt has it.
2. It is called in livingai's own thread (in the caller's, where an engine is closed), so it must be
   quick and thread-safe. What it raises is logged and changes nothing.
3. Adding and ending copy the tuple of observers, so a call in progress is not disturbed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from livingai.outcome import Outcome, Receipt

_log = logging.getLogger("livingai")


class OutcomeObserver(Protocol):
    """Anything that can be called with a receipt and its outcome."""

    def __call__(self, receipt: Receipt, outcome: Outcome, /) -> None:
        """``receipt`` has the terminal ``outcome``."""


class Observers:
    """The observers of one engine. Thread-safe."""

    def __init__(self, *observers: OutcomeObserver) -> None:
        self._lock = threading.Lock()
        self._observers = observers

    def add(self, observer: OutcomeObserver) -> Callable[[], None]:
        """Call ``observer`` from now on; the result ends that and may be called again."""
        entry: OutcomeObserver = _Added(observer)
        with self._lock:
            self._observers = (*self._observers, entry)

        def end() -> None:
            with self._lock:
                self._observers = tuple(each for each in self._observers if each is not entry)

        return end

    def offer(self, receipt: Receipt) -> None:
        """Call every observer with a receipt that has its outcome."""
        outcome = receipt.outcome
        if outcome is None:
            return
        for observer in self._observers:
            try:
                observer(receipt, outcome)
            except Exception:
                _log.exception("an observer of outcomes failed; the write has its outcome anyway")


class _Added:
    """An observer as it was added: the same one may be added twice and ended once."""

    def __init__(self, observer: OutcomeObserver) -> None:
        self._observer = observer

    def __call__(self, receipt: Receipt, outcome: Outcome, /) -> None:
        self._observer(receipt, outcome)
