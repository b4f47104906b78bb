"""What a save promises: durability levels, outcomes, and the receipt that delivers them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Protocol

from livingai.errors import OutcomeTimeoutError, OutcomeUnknownError
from livingai.promise import Promise, wake


class Durability(IntEnum):
    """How much a write survives; ordered."""

    #: The record is in the page cache: survives kill -9 of any or all processes.
    JOURNAL = 1
    #: fdatasync has covered the record: survives power loss.
    FSYNC = 2
    #: The store committed it: survives the loss of this machine, as far as the store promises.
    STORE = 3


class OutcomeStatus(StrEnum):
    """The terminal outcome of a write; every accepted write gets exactly one."""

    #: Stored within its budget.
    MET = "met"
    #: Stored, after its budget.
    LATE = "late"
    #: A newer state of the execution was stored instead (only with ``history=False``).
    SUPERSEDED = "superseded"
    #: A newer owner has taken the execution over.
    FENCED = "fenced"
    #: The store refuses it for good; it is kept aside (``livingai status``, ``livingai requeue``).
    QUARANTINED = "quarantined"


#: Codes of the outcome word in the journal; see ``queue/FORMAT.md``.
STATUS_CODES: dict[OutcomeStatus, int] = {
    status: code for code, status in enumerate(OutcomeStatus, start=1)
}
STATUS_BY_CODE: dict[int, OutcomeStatus] = {code: status for status, code in STATUS_CODES.items()}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a write. ``level`` is the durability that it has reached, ``latency_ms`` the
    time from acceptance to commit (or to the decision against it), ``reason`` says why where the
    store did not take it, or where it is late because no service was there yet."""

    status: OutcomeStatus
    level: Durability
    latency_ms: float
    reason: str = ""

    @property
    def stored(self) -> bool:
        """Whether this very write is in the store."""
        return self.status in (OutcomeStatus.MET, OutcomeStatus.LATE)


def outcome_from_code(code: int, latency_us: int, reason: str = "") -> Outcome:
    """The outcome that an outcome word means."""
    status = STATUS_BY_CODE[code]
    stored = status in (OutcomeStatus.MET, OutcomeStatus.LATE, OutcomeStatus.SUPERSEDED)
    level = Durability.STORE if stored else Durability.JOURNAL
    return Outcome(status, level, latency_us / 1000, reason)


Callback = Callable[["Receipt"], object]


class Waker(Protocol):
    """A way to the service."""

    def hurry_left(self) -> None:
        """Say that somebody waits for what was left. Never blocks, never raises."""


class Receipt(Promise):
    """An accepted write. Truthy; ``await receipt`` or :meth:`result` gives its :class:`Outcome`."""

    __slots__ = ("_outcome", "_waker", "execution_id", "lsn", "node_id", "position", "sink")

    def __init__(
        self, execution_id: str, node_id: str, lsn: int, position: int, sink: Callback | None
    ) -> None:
        super().__init__()
        self.execution_id = execution_id
        self.node_id = node_id
        #: The record's number and position in this process's journal.
        self.lsn = lsn
        self.position = position
        #: Called first when the outcome is known (see engine/observers.py).
        self.sink = sink
        #: Over without one: it will never be known here.
        self._outcome: Outcome | None = None
        self._waker: Waker | None = None

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        state = self._outcome.status if self._outcome else "pending"
        return f"<Receipt {self.execution_id} {self.node_id} {state}>"

    def leave_to(self, waker: Waker) -> None:
        """The service leaves the write for a moment, unless it hears that somebody waits."""
        self._waker = waker

    def _hurry(self) -> None:
        waker, self._waker = self._waker, None
        if waker is not None and not self._over:
            waker.hurry_left()

    def _add(self, waiter: Any) -> bool:
        added = super()._add(waiter)
        self._hurry()
        return added

    def _end(self) -> list[Any]:
        self._waker = None
        return super()._end()

    @property
    def outcome(self) -> Outcome | None:
        """The outcome, or None while it is not known. Who asks for it waits for it."""
        self._hurry()
        return self._outcome

    @property
    def known(self) -> Outcome | None:
        """As :attr:`outcome`, for somebody who does not wait: the write may be left for longer."""
        return self._outcome

    def done(self) -> bool:
        """Whether the outcome is known. Who asks for it waits for it."""
        self._hurry()
        return self._outcome is not None

    def _known(self) -> Outcome:
        if self._outcome is None:
            raise OutcomeUnknownError
        return self._outcome

    def add_callback(self, callback: Callback) -> None:
        """Call ``callback(receipt)`` once the outcome is known, from livingai's thread (or at once,
        here, if it is known already). It must be quick and must not raise."""
        if not self._add(callback) and self._outcome is not None:
            callback(self)

    def __await__(self) -> Generator[Any, None, Outcome]:
        """Wait for the outcome, as :meth:`result` does."""
        yield from self.pause()
        return self._known()

    def result(self, timeout: float | None = None) -> Outcome:
        """Wait up to ``timeout`` seconds (None: for ever) for the outcome.

        Raises:
            OutcomeTimeoutError: it is not known yet; the record waits in the journal.
            OutcomeUnknownError: the engine was closed before it was known, or this process is a
                fork of the one that saved; the record is safe all the same.
        """
        if not self.wait(timeout):
            raise OutcomeTimeoutError(
                f"no outcome for {self.execution_id} after {timeout} s; the record is safe in the "
                "journal. `livingai status` says what the service waits for."
            )
        return self._known()


def settle(outcomes: Iterable[tuple[Receipt, Outcome]]) -> None:
    """Give receipts their outcomes and wake all that wait; the first outcome of a receipt counts.

    Waiters of one event loop are woken together.
    """
    to_wake = []
    for receipt, outcome in outcomes:
        with receipt._lock:
            if receipt._outcome is not None:
                continue
            receipt._outcome = outcome
            waiters = receipt._end()
        if receipt.sink is not None:
            receipt.sink(receipt)
        if waiters:
            to_wake.append((receipt, waiters))
    wake(to_wake)


def give_up(receipts: Iterable[Receipt]) -> None:
    """The process leaves: these receipts get no outcome. What waits for one gets an error."""
    to_wake = []
    for receipt in receipts:
        with receipt._lock:
            waiters = receipt._end()
        to_wake.append((receipt, [each for each in waiters if not callable(each)]))
    wake(to_wake)


def orphan(receipts: Iterable[Receipt]) -> None:
    """In a forked child: the outcomes of these receipts are the parent's to learn, and so are its
    waiters."""
    for receipt in receipts:
        receipt._end()
