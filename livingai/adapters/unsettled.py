"""Entries of a shared log whose outcome is not known yet, and what is done with bad outcomes.

An entry that another machine's process put out (``fenced``) is saved again by a thread that lives
as long as there are such entries. One that the store refuses for good is remembered until somebody
is told.

A node may be appended again with more in it (a call, and then its result). Then its earlier
versions are not saved again behind the newer one: that one counts.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from livingai.errors import FencedError, FlushTimeoutError, LivingAIError, RecordRefusedError
from livingai.node import ExecutionNode
from livingai.outcome import Outcome, OutcomeStatus, Receipt

_log = logging.getLogger("livingai")
#: Between two attempts to save an entry again while that fails (s).
_PAUSE_S = 0.2
#: Of several failures at once so many are told in full.
_SHOWN: Final = 20


class LogEntry:
    """A node that was appended to a shared log, with the state that was saved with it."""

    __slots__ = ("node", "number", "receipt", "state")

    def __init__(self, node: ExecutionNode, state: Any) -> None:
        self.node = node
        self.state = state
        #: Entries of this process are counted as they are accepted.
        self.number = 0
        #: Of the newest save.
        self.receipt: Receipt | None = None


class UnsettledEntries:
    """Accepted entries of one engine, until their outcome is known. Thread-safe."""

    def __init__(self, save: Callable[[LogEntry], Receipt], is_closed: Callable[[], bool]) -> None:
        """``save`` saves an entry, in the calling thread, so that its claim was unmarked after
        that; ``is_closed`` says whether nothing more can be saved."""
        self._save = save
        self._is_closed = is_closed
        self._lock = threading.Condition()
        self._accepted = 0
        self._waiting: dict[Receipt, LogEntry] = {}
        #: By id of a node: its newest entry, and how many of its entries are waiting or fenced.
        self._nodes: dict[str, tuple[LogEntry, int]] = {}
        #: By execution, in the order in which they were accepted.
        self._of: dict[str, dict[LogEntry, None]] = {}
        #: To be saved again, in the order in which that became known.
        self._fenced: collections.deque[LogEntry] = collections.deque()
        #: How many there have been.
        self._fences = 0
        #: By execution: what became known since anybody was told; and what else did.
        self._refused: dict[str, LivingAIError] = {}
        self._besides: dict[str, list[str]] = {}
        #: Of event loops that wait until nothing has to be saved again.
        self._loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._saver: threading.Thread | None = None

    # -- outcomes --

    def add(self, receipt: Receipt, entry: LogEntry) -> None:
        """An entry was saved for the first time."""
        with self._lock:
            self._accepted += 1
            entry.number = self._accepted
            before, count = self._nodes.get(entry.node.id, (None, 0))
            self._nodes[entry.node.id] = entry, count + 1
            self._of.setdefault(entry.node.execution_id, {})[entry] = None
            entry.receipt = receipt
            if (
                before is not None
                and before.receipt is not None
                and before.receipt.lsn > receipt.lsn
            ):
                self._again(entry)  # an earlier version was saved again just behind it
            else:
                self._waiting[receipt] = entry
        self._look_at(receipt)

    def _done(self, entry: LogEntry) -> None:
        """An entry waits no more. With the lock held."""
        newest, count = self._nodes[entry.node.id]
        if count > 1:
            self._nodes[entry.node.id] = newest, count - 1
        else:
            del self._nodes[entry.node.id]
        entries = self._of[entry.node.execution_id]
        del entries[entry]
        if not entries:
            del self._of[entry.node.execution_id]

    def _again(self, entry: LogEntry) -> None:
        """Have an entry saved again. With the lock held."""
        self._fenced.append(entry)
        self._start_saver()

    def _look_at(self, receipt: Receipt) -> None:
        """The outcome may have come before anybody could see what it is about."""
        outcome = receipt.known
        if outcome is not None:
            self.settled(receipt, outcome)

    def settled(self, receipt: Receipt, outcome: Outcome) -> None:
        """An outcome of the engine, in livingai's thread: note what there is to do."""
        with self._lock:
            entry = self._waiting.pop(receipt, None)
            if entry is None:
                return
            if outcome.status is OutcomeStatus.FENCED:
                self._fences += 1
                self._again(entry)
                return
            self._done(entry)
            if outcome.status is OutcomeStatus.QUARANTINED:
                self._refuse(receipt.execution_id, RecordRefusedError(
                    f"an entry of {receipt.execution_id} ({receipt.node_id}) was accepted, and the "
                    f"store refuses it: {outcome.reason}. It is kept aside: `livingai status` "
                    "lists it, `livingai requeue` tries it again"
                ))  # fmt: skip

    def _refuse(self, execution_id: str, error: LivingAIError) -> None:
        """Have the next call for an execution raise an error. With the lock held."""
        first = self._refused.setdefault(execution_id, error)
        if first is not error:
            self._besides.setdefault(execution_id, []).append(str(error))

    def _is_newest(self, entry: LogEntry) -> bool:
        return self._nodes[entry.node.id][0] is entry

    def following(self, entry: LogEntry, receipt: Receipt, outcome: Outcome) -> Receipt:
        """The receipt of the save that followed one with a bad outcome.

        Raises:
            RecordRefusedError, FencedError: there is none, and will not be.
        """
        self.settled(receipt, outcome)  # who waits for a receipt may come before its observers
        newest = entry.receipt
        if outcome.status is OutcomeStatus.FENCED and newest not in (None, receipt):
            assert newest is not None
            return newest
        self.check(entry.node.execution_id)
        kind = FencedError if outcome.status is OutcomeStatus.FENCED else RecordRefusedError
        raise kind(f"{entry.node.id} is not in the store: {outcome.status}, {outcome.reason}")

    def check(self, execution_id: str) -> None:
        """Raise what became known of earlier entries of an execution, once. Of several at once the
        error is of the first one's type, and says what became of the others."""
        with self._lock:
            error = self._refused.pop(execution_id, None)
            besides = self._besides.pop(execution_id, [])
        if error is None:
            return
        if not besides:
            raise error
        shown = besides[:_SHOWN]
        more = len(besides) - len(shown)
        others = "; ".join(shown) + (f"; and {more} more" if more else "")
        raise type(error)(f"{error}. {len(besides)} more failed: {others}")

    def check_any(self) -> None:
        """Raise what became known of the entries of any execution; that of others stays."""
        with self._lock:
            execution_id = next(iter(self._refused), None)
        if execution_id is not None:
            self.check(execution_id)

    # -- saving again (a thread of its own) --

    def _start_saver(self) -> None:
        if self._saver is None:
            self._saver = threading.Thread(
                target=self._save_again, name="livingai-entries", daemon=True
            )
            self._saver.start()

    def _end_saver(self) -> None:
        """Nothing has to be saved again: tell who waits for that. With the lock held."""
        self._saver = None
        self._lock.notify_all()
        for loop, future in self._loops:
            with suppress(RuntimeError):  # its loop was closed meanwhile
                loop.call_soon_threadsafe(_end_wait, future)
        self._loops.clear()

    def _save_again(self) -> None:
        """Save what was fenced until there is nothing left. Waits, for a journal that is full, with
        no lock held."""
        while True:
            with self._lock:
                if not self._fenced:
                    self._end_saver()
                    return
                entry = self._fenced[0]
                if not self._is_newest(entry):
                    self._fenced.popleft()
                    self._done(entry)
                    continue
            try:
                receipt = self._save(entry)
            except LivingAIError as error:
                if self._gives_up(error):
                    return
                continue
            with self._lock:  # at once: whoever counts what is left finds it here or there
                self._fenced.popleft()
                entry.receipt = receipt
                if self._is_newest(entry):
                    self._waiting[receipt] = entry
                else:  # a newer version came before it meanwhile
                    self._newest_again(entry)
            self._look_at(receipt)

    def _newest_again(self, entry: LogEntry) -> None:
        """An entry was saved behind a newer one of its node. With the lock held."""
        newest, _ = self._nodes[entry.node.id]
        if newest.receipt is not None and newest in self._waiting.values():
            del self._waiting[newest.receipt]
            self._done(entry)
        elif newest in self._fenced:
            self._done(entry)
            return
        else:  # it was stored before: it takes the place of ``entry``
            self._of[newest.node.execution_id][newest] = None
            del self._of[entry.node.execution_id][entry]
        self._again(newest)

    def _gives_up(self, error: LivingAIError) -> bool:
        """After a failure: wait a moment; whether the engine is closed and nothing more can be."""
        if not self._is_closed():
            time.sleep(_PAUSE_S)  # a full disk or journal: there may be room then
            return False
        with self._lock:
            lost = list(self._fenced)
            _log.error(
                "%d entries are lost: another machine's process took their executions over before "
                "they were stored, and the engine was closed before they could be saved again. The "
                "first one is %s.", len(lost), lost[0].node.id,
            )  # fmt: skip
            for entry in lost:
                self._refuse(entry.node.execution_id, FencedError(
                    f"{entry.node.id} was accepted, another machine's process took "
                    f"{entry.node.execution_id} over before it was stored, and the engine was "
                    f"closed before it could be saved again: {error}"
                ))  # fmt: skip
                self._done(entry)
            self._fenced.clear()
            self._end_saver()
        return True

    # -- waiting --

    @property
    def fences(self) -> int:
        """How often an entry was found to be fenced."""
        return self._fences

    def of(self, execution_id: str) -> list[LogEntry]:
        """Those of an execution that have no good outcome yet, in the order in which they were
        accepted."""
        with self._lock:
            return list(self._of.get(execution_id, ()))

    @property
    def accepted(self) -> int:
        """The number of the newest entry."""
        return self._accepted

    @property
    def left(self) -> int:
        """How many entries have no good outcome yet."""
        with self._lock:
            return sum(count for _, count in self._nodes.values())

    def any_left(self, upto: int) -> bool:
        """Whether an entry with a number up to that has no good outcome yet."""
        with self._lock:
            return any(
                entry.number <= upto for each in (self._waiting.values(), self._fenced)
                for entry in each
            )  # fmt: skip

    @property
    def any_fenced(self) -> bool:
        """Whether there is an entry to be saved again."""
        return bool(self._fenced)

    def wait_saved_again(self, deadline: float) -> None:
        """Hold this thread until nothing has to be saved again.

        Raises:
            FlushTimeoutError: something had to be at ``deadline`` (CLOCK_MONOTONIC, s).
        """
        with self._lock:
            if not self._lock.wait_for(lambda: not self._fenced, seconds_left(deadline)):
                raise self._not_saved()

    async def saved_again(self, deadline: float) -> None:
        """As :meth:`wait_saved_again`, in an event loop: no thread waits."""
        loop = asyncio.get_running_loop()
        while True:
            with self._lock:
                if not self._fenced:
                    return
                future: asyncio.Future[None] = loop.create_future()
                self._loops.append((loop, future))
            try:
                async with asyncio.timeout(seconds_left(deadline)):
                    await future
            except TimeoutError:
                raise self._not_saved() from None
            finally:
                with self._lock:
                    self._loops = [each for each in self._loops if each[1] is not future]

    def _not_saved(self) -> FlushTimeoutError:
        return FlushTimeoutError(
            f"{len(self._fenced)} entries that another machine's process put out could not be "
            "saved again in time; this process goes on trying"
        )


def _end_wait(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def seconds_left(deadline: float) -> float | None:
    """Seconds until then, as a timeout; None for ever."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())
