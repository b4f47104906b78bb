"""Journals that cannot be read: when each is tried again, and from when on a reader is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest import mock

import pytest

from livingai.workers.dispatcher.unreadable import Unreadable

S = 10**9


class Clock:
    """Shows what CLOCK_MONOTONIC is to be, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """As time.monotonic."""
        return self.now


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    with mock.patch.object(time, "monotonic", clock.monotonic):
        yield clock


def test_each_is_tried_again_after_a_pause(clock: Clock) -> None:
    unreadable = Unreadable()
    assert unreadable.due("a")
    for _ in range(2):
        unreadable.note("a", OSError("no descriptors"))
        assert not unreadable.due("a")
        assert unreadable.due("b")
        clock.now += 0.99
        assert not unreadable.due("a")
        clock.now += 0.01
        assert unreadable.due("a")
    unreadable.note("a", OSError("no descriptors"))
    unreadable.note("b", OSError("no descriptors"))
    unreadable.try_now()
    assert unreadable.due("a")
    assert unreadable.due("b")


def test_what_can_be_read_again_or_is_gone_is_no_trouble(clock: Clock) -> None:
    unreadable = Unreadable()
    for path in ("a", "b", "c"):
        unreadable.note(path, OSError(f"{path} is away"))
    assert unreadable.paths() == ["a", "b", "c"]
    unreadable.forget("a")
    unreadable.forget("a")
    assert "b cannot be read (b is away)" in unreadable.trouble
    unreadable.keep({"a", "c"})
    assert unreadable.paths() == ["c"]
    assert unreadable
    unreadable.note("c", OSError("no memory"))
    assert "c cannot be read (no memory)" in unreadable.trouble
    unreadable.keep(set())
    assert not unreadable
    assert unreadable.trouble == ""
    assert unreadable.error(0) is None


def test_a_reader_is_told_when_patience_is_over_and_it_was_tried_for_it(clock: Clock) -> None:
    unreadable = Unreadable()
    unreadable.note("a", OSError("no descriptors"))
    clock.now += 4
    unreadable.note("a", OSError("no descriptors"))
    assert unreadable.error(0) is None
    clock.now += 1.5
    assert "a cannot be read" in str(unreadable.error(0)), "since it was noted first"
    asked = int(clock.now * S)
    assert unreadable.error(asked) is None, "it may have been mended by now"
    clock.now += 0.1
    unreadable.note("a", OSError("no descriptors"))
    assert "a cannot be read" in str(unreadable.error(asked))
    unreadable.forget("a")
    unreadable.note("a", OSError("no descriptors"))
    assert unreadable.error(asked) is None, "it could be read in between"
