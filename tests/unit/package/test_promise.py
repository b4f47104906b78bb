"""What livingai's threads finish and others wait for: no interrupted wait stops those threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import pytest

from livingai.errors import OutcomeUnknownError
from livingai.outcome import Durability, Outcome, OutcomeStatus, Receipt, give_up, settle
from livingai.promise import Bell, Deferred
from livingai.runs.threads import _Threads
from tests.support.interrupting import interrupted_everywhere
from tests.support.patience import patience
from tests.support.waiting import joined

DEADLINE_S = 30.0
MET = Outcome(OutcomeStatus.MET, Durability.STORE, 1.0)


def ends(call: Callable[[], Any]) -> bool:
    """Whether a call in another thread ends."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    joined(thread, timeout=DEADLINE_S)
    return not thread.is_alive()


def _receipt() -> Receipt:
    return Receipt("execution", "node", 1, 1, None)


def _finish(promise: Deferred[int] | Receipt) -> None:
    if isinstance(promise, Receipt):
        settle([(promise, MET)])
    else:
        promise.set(7)


@pytest.mark.parametrize("make", [Deferred, _receipt])
@pytest.mark.parametrize("timeout", [0.0, 0.001])
def test_an_interrupted_wait_stops_nobody(make: Callable[[], Any], timeout: float) -> None:
    promises: list[Any] = []

    def prepare() -> Callable[[], Any]:
        promises.append(make())
        return lambda: promises[-1].wait(timeout)

    steps = 0
    for steps in interrupted_everywhere(prepare):
        assert ends(lambda: _finish(promises[-1])), f"interrupted at step {steps}"
        assert promises[-1].wait(patience(DEADLINE_S))
    assert steps > 5, "nothing was interrupted"


@pytest.mark.parametrize("call", ["set", "cancel"])
def test_an_interrupted_end_stops_nobody(call: str) -> None:
    deferreds: list[Deferred[Any]] = []

    def prepare() -> Callable[[], Any]:
        deferreds.append(Deferred())
        return lambda: getattr(deferreds[-1], call)(*([7] if call == "set" else []))

    steps = 0
    for steps in interrupted_everywhere(prepare):
        assert ends(lambda: deferreds[-1].set(8)), f"interrupted at step {steps}"
        assert deferreds[-1].wait(patience(DEADLINE_S))
    assert steps > 3, "nothing was interrupted"


def test_an_interrupted_ring_leaves_the_bell_in_order() -> None:
    bells: list[Bell] = []

    def prepare() -> Callable[[], Any]:
        bells.append(Bell())
        return bells[-1].ring

    for step in interrupted_everywhere(prepare):
        assert ends(bells[-1].ring), f"interrupted at step {step}"
        assert bells[-1].wait(patience(DEADLINE_S))


def test_an_interrupted_call_in_a_thread_leaves_the_threads_in_order() -> None:
    threads = _Threads()
    steps = 0
    for steps in interrupted_everywhere(lambda: lambda: threads.do(lambda: None)):
        done = Bell()
        assert ends(partial(threads.do, done.ring)), f"interrupted at step {steps}"
        assert done.wait(patience(DEADLINE_S)), f"interrupted at step {steps}"
    assert steps > 3, "nothing was interrupted"


def test_a_bell_wakes_once_however_often_it_rang() -> None:
    bell = Bell()
    assert not bell.wait(0)
    bell.ring()
    bell.ring()
    assert bell.wait(0)
    assert not bell.wait(0)


def test_a_deferred_has_the_value_that_came_first() -> None:
    deferred: Deferred[int] = Deferred()
    with pytest.raises(TimeoutError):
        deferred.result(0)
    deferred.set(1)
    deferred.set(2)
    deferred.fail(ValueError())
    assert not deferred.cancel()
    assert deferred.result() == 1


def test_a_deferred_is_cancelled_unless_it_has_begun() -> None:
    begun: Deferred[int] = Deferred()
    assert begun.begin()
    assert not begun.cancel()
    begun.set(1)
    assert begun.result() == 1
    cancelled: Deferred[int] = Deferred()
    told: list[Any] = []
    cancelled.add_callback(told.append)
    assert cancelled.cancel()
    assert cancelled.cancel()
    assert not cancelled.begin()
    cancelled.set(1)
    assert told == [cancelled]
    with pytest.raises(CancelledError):
        cancelled.result()


async def test_event_loops_wait_and_give_up() -> None:
    deferred: Deferred[int] = Deferred()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await deferred
    await asyncio.sleep(0)  # the cancelled future says so in the loop's next round
    assert not deferred._waiters, "a waiter that gave up is forgotten"
    waiting = [asyncio.ensure_future(_wait_for(deferred)) for _ in range(3)]
    await asyncio.sleep(0)
    thread = threading.Thread(target=deferred.set, args=(5,))
    thread.start()
    assert await asyncio.wait_for(asyncio.gather(*waiting), patience(DEADLINE_S)) == [5, 5, 5]
    thread.join()
    assert await deferred == 5, "and who comes later"


async def _wait_for(deferred: Deferred[int]) -> int:
    return await deferred


def test_a_receipt_without_an_outcome_says_so() -> None:
    receipt = _receipt()
    give_up([receipt])
    with pytest.raises(OutcomeUnknownError):
        receipt.result(patience(DEADLINE_S))
    settle([(receipt, MET)])
    assert receipt.result() is MET, "it came after all"


def test_the_first_outcome_of_a_receipt_counts() -> None:
    """It may come from the journal and in a message."""
    told: list[Receipt] = []
    receipt = Receipt("execution", "node", 1, 1, told.append)
    settle([(receipt, MET), (receipt, Outcome(OutcomeStatus.FENCED, Durability.JOURNAL, 2.0))])
    assert receipt.outcome is MET
    assert told == [receipt]


def test_who_gets_no_outcome_is_not_called_back() -> None:
    told: list[Receipt] = []
    receipt = _receipt()
    receipt.add_callback(told.append)
    give_up([receipt])
    assert told == []


@pytest.mark.parametrize(
    "ask", [lambda r: r.done(), lambda r: r.outcome, lambda r: r.add_callback(print)]
)
def test_whoever_asks_for_an_outcome_waits_for_it(ask: Callable[[Receipt], object]) -> None:
    """The service, which has left the write for a moment, hears of it, once."""
    hurried: list[bool] = []

    class Waker:
        def hurry_left(self) -> None:
            hurried.append(True)

    receipt = _receipt()
    receipt.leave_to(Waker())
    for _ in range(2):
        ask(receipt)
    assert hurried == [True]
    settled = _receipt()
    settled.leave_to(Waker())
    settle([(settled, MET)])
    assert settled.done()
    assert hurried == [True], "it is known"
