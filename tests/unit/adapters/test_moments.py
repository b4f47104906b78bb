"""Moments: they sort as they were made, and behind what was seen, whatever the clock says."""

from __future__ import annotations

import threading
import time

import pytest

from livingai.adapters.moments import MOMENT_CHARS, Moments
from livingai.errors import CorruptRowError


def test_they_sort_as_they_were_made() -> None:
    moments = Moments()
    made = [moments.next() for _ in range(1000)]
    assert made == sorted(made)
    assert len(set(made)) == 1000
    assert {len(each) for each in made} == {MOMENT_CHARS}


def test_they_are_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0x1234)
    assert Moments().next().startswith("0000000000001234-")


def test_a_clock_that_goes_back_turns_nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = Moments()
    before = moments.next()
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    assert moments.next() > before


def test_what_was_seen_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = f"{time.time_ns() + 3600 * 10**9:016x}-ffffffff"
    moments = Moments()
    assert moments.next() < ahead
    moments.saw(ahead)
    assert moments.next() > ahead
    moments.saw("0" * 16 + "-00000000")
    assert moments.next() > ahead


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "zzz",
        "0" * 16,
        "0" * 16 + "-0000000G",
        "0" * 17 + "-0" * 4,
        "f" + "0" * 15 + "-00000000",
    ],
)
def test_what_is_none_is_refused(odd: str) -> None:
    with pytest.raises(CorruptRowError, match="no moment"):
        Moments().saw(odd)


def test_threads_get_different_ones() -> None:
    moments = Moments()
    made: list[list[str]] = [[] for _ in range(4)]

    def work(mine: list[str]) -> None:
        mine.extend(moments.next() for _ in range(500))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each[:16] for mine in made for each in mine}) == 2000
    assert all(mine == sorted(mine) for mine in made)
