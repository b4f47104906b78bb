"""When a client tries again to reach the service, and when it has it started again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from livingai.engine import reconnect
from livingai.engine.reconnect import LONGEST_DELAY_S, Attempts


class Clock:
    """The monotonic clock, which goes on as a test says."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reconnect, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts()


def until_due(attempts: Attempts, clock: Clock) -> float:
    """So many seconds pass until the service is to be started; it is, then."""
    began = clock.now
    while not attempts.start_is_due():
        clock.now += 0.25
    attempts.started()
    return clock.now - began


def test_attempts_become_rare_and_do_not_end(attempts: Attempts) -> None:
    delays = [attempts.next_delay_s() for _ in range(20)]
    assert delays == sorted(delays)
    assert delays[0] < 0.01
    assert delays[-3:] == [LONGEST_DELAY_S] * 3


def test_attempts_are_frequent_while_the_service_starts(attempts: Attempts, clock: Clock) -> None:
    attempts.started()
    assert max(attempts.next_delay_s() for _ in range(20)) <= 0.05
    clock.now += 60
    assert [attempts.next_delay_s() for _ in range(20)][-1] == LONGEST_DELAY_S


def test_starts_that_fail_become_rare(attempts: Attempts, clock: Clock) -> None:
    waited = [until_due(attempts, clock) for _ in range(9)]
    assert waited == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert attempts.tried
    assert not Attempts().tried


def test_a_service_that_has_worked_is_started_again_at_once(
    attempts: Attempts, clock: Clock
) -> None:
    for _ in range(8):
        until_due(attempts, clock)
        attempts.next_delay_s()
    for _ in range(8):
        attempts.succeeded(lasted_s=60)
        assert attempts.delay_s < 0.01
        assert until_due(attempts, clock) == 0


def test_a_service_that_is_soon_lost_each_time_is_started_less_and_less(
    attempts: Attempts, clock: Clock
) -> None:
    """At once three times; then it is as one that does not come at all, until it has worked."""
    waited = []
    for _ in range(7):
        waited.append(until_due(attempts, clock))
        attempts.succeeded(lasted_s=0.5)
        assert attempts.delay_s < 0.01
    assert waited == [0, 0, 0, 0, 1, 2, 4]
    attempts.succeeded(lasted_s=60)
    assert until_due(attempts, clock) == 0


def test_a_service_that_makes_room_for_another_is_not_started_again(
    attempts: Attempts, clock: Clock
) -> None:
    """Another one is on its way, and counts as just started. That holds once."""
    attempts.replaces()
    attempts.succeeded(lasted_s=60)
    assert until_due(attempts, clock) == 1
    attempts.succeeded(lasted_s=60)
    assert until_due(attempts, clock) == 0
