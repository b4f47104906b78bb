"""Waits: both kinds of callers end them in the same way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from livingai.engine.waits import WaitFor, Waits, pass_time, pass_time_sync
from livingai.promise import Deferred
from tests.support.waiting import joined

Drive = Callable[[Waits[str]], str]
DRIVES: list[Drive] = [lambda waits: asyncio.run(pass_time(waits)), pass_time_sync]


def ended(drive: Drive, waits: Waits[str]) -> str:
    """The value; a wait that has no end fails the test instead of holding it up."""
    found: list[str | BaseException] = []

    def run() -> None:
        try:
            found.append(drive(waits))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    joined(thread, timeout=20)
    assert found, "it waits without a limit"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


@pytest.mark.parametrize("drive", DRIVES)
def test_a_limit_is_raised_where_it_is_waited(drive: Drive) -> None:
    def waits() -> Waits[str]:
        try:
            yield WaitFor(Deferred(), 0.01)
        except TimeoutError:
            return "too late"
        return "done"

    assert ended(drive, waits()) == "too late"


@pytest.mark.parametrize("drive", DRIVES)
def test_an_error_is_raised_where_it_is_waited(drive: Drive) -> None:
    def waits(answer: Deferred[int]) -> Waits[str]:
        try:
            yield WaitFor(answer, None)
        except OSError as error:
            yield WaitFor(None, 0)
            return str(error)
        return "done"

    failed: Deferred[int] = Deferred()
    failed.fail(OSError("the disk"))
    assert ended(drive, waits(failed)) == "the disk"
    done: Deferred[int] = Deferred()
    done.set(1)
    assert ended(drive, waits(done)) == "done"


@pytest.mark.parametrize("drive", DRIVES)
def test_an_error_that_nobody_expects_comes_out(drive: Drive) -> None:
    def waits() -> Waits[str]:
        yield WaitFor(Deferred(), 0.01)
        return "done"

    with pytest.raises(TimeoutError):
        ended(drive, waits())
