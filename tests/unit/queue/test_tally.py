"""Tallies: each record is counted once, whatever dies between two writes, and damage costs no more
than one of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from unittest import mock

import pytest

import livingai.queue.tally as tally_module
from livingai.errors import OddFileError
from livingai.outcome import STATUS_CODES, OutcomeStatus
from livingai.queue.counters import (
    BATCH,
    COMMIT,
    COUNTERS,
    FIRST_OUTCOME,
    LATENCY,
    HistogramPlaces,
    ServiceCounter,
    StoreCounter,
)
from livingai.queue.layout import TALLY_SLOT_BYTES
from livingai.queue.tally import (
    ServiceTally,
    StoreTally,
    TallyState,
    open_service_tally,
    read_tally,
)
from tests.support.journals import state_directory
from tests.support.waiting import elsewhere_locked, joined, until

MET, LATE, FENCED = (
    STATUS_CODES[each] for each in (OutcomeStatus.MET, OutcomeStatus.LATE, OutcomeStatus.FENCED)
)
ONE, OTHER = 0xA1, 0xB2


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "service.tally")


def lives(path: str) -> Iterator[ServiceTally]:
    """Dispatchers, one after the other; each dies when the next is taken."""
    while True:
        with closing(ServiceTally(path)) as tally:
            yield tally


def met(path: str) -> int:
    return read_tally(path).counters[FIRST_OUTCOME + MET - 1]


def test_places_do_not_overlap_and_fit() -> None:
    def taken(singles: type[ServiceCounter | StoreCounter], *more: HistogramPlaces) -> list[int]:
        found = [int(place) for place in singles]
        for places in more:
            found += range(places.first, places.first + len(places.bounds) + 1)
        return found

    outcomes = range(FIRST_OUTCOME, FIRST_OUTCOME + len(OutcomeStatus))
    for found in (
        [*outcomes, *taken(ServiceCounter, LATENCY)], taken(StoreCounter, COMMIT, BATCH)
    ):  # fmt: skip
        assert len(set(found)) == len(found)
        assert max(found) < COUNTERS


def test_a_value_is_counted_at_the_smallest_bound_that_it_does_not_exceed() -> None:
    places = HistogramPlaces(3, (10, 20))
    assert [places.place(value) for value in (0, 10, 11, 20, 21, 1 << 60)] == [3, 3, 4, 4, 5, 5]


def test_nothing_is_there_at_first(path: str) -> None:
    assert read_tally(path).counters == [0] * COUNTERS
    with closing(ServiceTally(path)):
        assert read_tally(path).generation == 0


def test_what_was_counted_is_there_in_the_next_life(path: str) -> None:
    life = lives(path)
    tally = next(life)
    tally.passed(ONE, 1, MET, 1_000)
    tally.passed(ONE, 2, LATE, 70_000)
    tally.passed(OTHER, 1, FENCED, 5)
    tally.write()
    found = read_tally(path)
    assert found.counters[:5] == [1, 1, 0, 1, 0]
    assert found.counters[ServiceCounter.LATENCY_US] == 71_005
    assert sum(LATENCY.counts(found.counters)) == 3
    next(life).passed(ONE, 3, MET, 1)
    assert met(path) == 1, "not written yet"


def test_what_is_read_again_is_not_counted_again(path: str) -> None:
    """The tally was written, and the process died before it moved the cursor."""
    life = lives(path)
    tally = next(life)
    for lsn in range(1, 6):
        tally.passed(ONE, lsn, MET, 1)
    tally.write()
    tally = next(life)
    for lsn in range(3, 9):
        tally.passed(ONE, lsn, MET, 1)
    tally.write()
    assert met(path) == 8


def test_what_was_not_written_is_counted_in_the_next_life(path: str) -> None:
    """The process died before it wrote: the cursor has not passed either, and all is read again."""
    life = lives(path)
    next(life).passed(ONE, 1, MET, 1)
    tally = next(life)
    tally.passed(ONE, 1, MET, 1)
    tally.write()
    assert met(path) == 1


def test_waiting_is_counted_once(path: str) -> None:
    life = lives(path)
    tally = next(life)
    tally.waited(ONE, 500)
    tally.waited(ONE, 500)
    tally.write()
    tally = next(life)
    tally.waited(ONE, 700)
    tally.waited(OTHER, 1)
    tally.write()
    assert read_tally(path).counters[ServiceCounter.WAITED_US] == 701


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("cut", [False, True])
def test_a_torn_write_leaves_the_one_before(path: str, slot: int, cut: bool) -> None:
    with closing(ServiceTally(path)) as tally:
        for lsn in range(1, 6 + slot):  # generations begin with 1, so the last is in that slot
            tally.passed(ONE, lsn, MET, 1)
            tally.write()
    last = read_tally(path)
    assert last.generation % 2 == (5 + slot) % 2
    at = last.generation % 2 * TALLY_SLOT_BYTES
    with open(path, "r+b") as file:
        if cut and at:
            file.truncate(at + 40)
        else:
            file.seek(at + 100)
            file.write(b"\xff" * 8)
    assert met(path) == last.counters[0] - 1
    with closing(ServiceTally(path)) as tally:
        tally.passed(ONE, last.counters[0], MET, 1)
        tally.write()
    assert met(path) == last.counters[0]


def test_random_bytes_say_nothing_and_end_nothing(path: str) -> None:
    chance = Random(7)
    with closing(ServiceTally(path)) as tally:
        tally.passed(ONE, 1, MET, 1)
        tally.write()
    good = Path(path).read_bytes()
    for _ in range(300):
        raw = bytearray(good)
        for _ in range(chance.randrange(1, 9)):
            raw[chance.randrange(TALLY_SLOT_BYTES, len(raw))] ^= 1 << chance.randrange(8)
        Path(path).write_bytes(raw[: chance.randrange(len(raw) + 1)])
        found = read_tally(path)
        assert found.counters[0] in (0, 1)
        assert len(found.counters) >= COUNTERS


def test_what_is_no_file_is_refused(path: str) -> None:
    os.mkfifo(path)
    with pytest.raises(OddFileError):
        read_tally(path)


def test_without_a_tally_a_service_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = state_directory(tmp_path / "state")
    os.mkfifo(os.path.join(directory.path, "service.tally"))
    assert open_service_tally(directory) is None
    assert "metrics are not counted" in caplog.text


def test_marks_of_journals_that_are_gone_are_dropped(tmp_path: Path) -> None:
    directory = state_directory(tmp_path / "state")
    os.mkdir(os.path.join(directory.journals, f"{ONE:016x}"))
    path = os.path.join(directory.path, "service.tally")
    with closing(ServiceTally(path)) as tally:
        tally.passed(ONE, 7, MET, 1)
        tally.passed(OTHER, 7, MET, 1)
        tally.write()
    opened = open_service_tally(directory)
    assert opened is not None
    with closing(opened) as tally:
        tally.passed(ONE, 7, MET, 1)
        tally.passed(ONE, 8, MET, 1)
        tally.write()
    assert set(read_tally(path).marks) == {ONE}
    assert met(path) == 3


def test_writers_add_beside_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "store.tally")

    def work() -> None:
        with closing(StoreTally(path)) as tally:  # a descriptor, and so a lock, of its own
            for _ in range(50):
                tally.add({StoreCounter.ROWS: 3, BATCH.place(3): 1})
            until(tally.write, what="the lock")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    joined(*threads)
    found = read_tally(path).counters
    assert found[StoreCounter.ROWS] == 600
    assert BATCH.counts(found)[2] == 200


def test_a_writer_waits_for_nobody_and_loses_no_count(tmp_path: Path) -> None:
    path = str(tmp_path / "store.tally")
    with closing(StoreTally(path)) as tally:
        with elsewhere_locked(path):
            tally.add({StoreCounter.ROWS: 3})
            tally.add({StoreCounter.ROWS: 4, StoreCounter.FAILED: 1})
            assert not tally.write()
            assert not tally.finish()
            assert read_tally(path).counters[StoreCounter.ROWS] == 0
        assert tally.write()
        assert read_tally(path).counters[StoreCounter.ROWS] == 7
        tally.add({StoreCounter.ROWS: 1})
        assert tally.finish()
    found = read_tally(path).counters
    assert (found[StoreCounter.ROWS], found[StoreCounter.FAILED]) == (8, 1)


def test_a_slot_that_is_being_written_is_read_again(path: str) -> None:
    """Else the other one, which may be older than what was read before, would count."""
    with closing(ServiceTally(path)) as tally:
        for lsn in (1, 2):
            tally.passed(ONE, lsn, MET, 1)
            tally.write()
    real, torn = tally_module._slots, [True]

    def slots(fd: int) -> list[TallyState | None]:
        found = real(fd)
        if torn:
            torn.pop()
            return [None, found[1]]
        return found

    with mock.patch.object(tally_module, "_slots", slots):
        assert met(path) == 2
    assert not torn


def test_a_reader_never_sees_counters_go_back(path: str) -> None:
    over = threading.Event()
    read: list[int] = []

    def look() -> None:
        while not over.is_set():
            read.append(met(path))

    reader = threading.Thread(target=look)
    with closing(ServiceTally(path)) as tally:
        reader.start()
        for lsn in range(1, 3000):
            tally.passed(ONE, lsn, MET, 1)
            tally.write()
    over.set()
    joined(reader)
    assert read == sorted(read)
    assert read[-1] > 0


def test_a_generation_that_was_never_counted_up_ends_nothing(path: str) -> None:
    with closing(ServiceTally(path)) as tally:
        tally._state = tally._state._replace(generation=(1 << 62) - 1)
        for lsn in (1, 2, 3):
            tally.passed(ONE, lsn, MET, 1)
            tally.write()
            assert met(path) == lsn
    assert read_tally(path).generation == 2
