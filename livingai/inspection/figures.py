"""The figures of a state directory: read from its files, by any process, at any time.

Nothing is asked of a process of the service here, so all of it can be had while the service hangs,
or is dead. Counters come from the tallies (:mod:`livingai.queue.tally`), what waits from what
owners and service publish in each journal. What cannot be read is left out and counted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from livingai.errors import LivingAIError
from livingai.outcome import OutcomeStatus, outcome_from_code
from livingai.queue.control import Control
from livingai.queue.counters import (
    BATCH,
    COMMIT,
    FIRST_OUTCOME,
    LATENCY,
    HistogramPlaces,
    ServiceCounter,
    StoreCounter,
)
from livingai.queue.cursor import Cursor, CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.lock import boot_id
from livingai.queue.owners import agent_alive
from livingai.queue.quarantine import aside_paths
from livingai.queue.segment import segment_name, segment_numbers
from livingai.queue.tail import JournalTail
from livingai.queue.tally import (
    SERVICE_TALLY,
    STORE_TALLY,
    TallyMark,
    TallyState,
    read_tally,
)


class OutcomeTotal(NamedTuple):
    """How many records had an outcome, and reached a level with it."""

    outcome: str
    level: str
    records: int


class Distribution(NamedTuple):
    """How values are distributed: how many do not exceed each bound (and the one before), how many
    exceed the last one, and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class CommitTotals(NamedTuple):
    """All commits of a state directory's writers."""

    duration_s: Distribution
    records: Distribution
    failures: int
    raw_bytes: int
    stored_bytes: int


@dataclass(slots=True)
class DirectoryFigures:
    """What a state directory says of itself at one moment."""

    service: TallyState
    store: TallyState
    journals: int = 0
    #: Journals of which something could not be read.
    unreadable: int = 0
    queue_records: int = 0
    oldest_age_s: float = 0.0
    journal_bytes: int = 0
    unsynced_bytes: int = 0
    quarantined: int = 0
    #: Microseconds of waiting that owners have published and no tally has counted yet.
    waited_us: int = 0
    #: The most bytes that wait in the journal of one living process.
    fullest_bytes: int = 0
    #: Free bytes on the directory's disk.
    free_bytes: int = 0

    def outcomes(self) -> Iterator[OutcomeTotal]:
        """Records by outcome and by the level that they reached."""
        for code, status in enumerate(OutcomeStatus, start=1):
            level = outcome_from_code(code, 0).level.name.lower()
            yield OutcomeTotal(str(status), level, self.service.counters[FIRST_OUTCOME + code - 1])

    @property
    def latency_s(self) -> Distribution:
        """From acceptance to outcome, of all records with an outcome."""
        counters = self.service.counters
        return _distribution(LATENCY, counters, counters[ServiceCounter.LATENCY_US], 1_000_000)

    @property
    def commits(self) -> CommitTotals:
        """What the writers have committed."""
        counters = self.store.counters
        return CommitTotals(
            _distribution(COMMIT, counters, counters[StoreCounter.COMMIT_US], 1_000_000),
            _distribution(BATCH, counters, counters[StoreCounter.ROWS], 1),
            counters[StoreCounter.FAILED],
            counters[StoreCounter.RAW_BYTES],
            counters[StoreCounter.STORED_BYTES],
        )

    @property
    def backpressure_s(self) -> float:
        """How long saves have waited for room."""
        return (self.service.counters[ServiceCounter.WAITED_US] + self.waited_us) / 1e6


def _distribution(
    places: HistogramPlaces, counters: list[int], total: int, per: int
) -> Distribution:
    """A histogram of a tally, ``per`` of whose units make one."""
    bounds = tuple(bound / per for bound in places.bounds)
    return Distribution(bounds, tuple(places.counts(counters)), total / per)


def look_at(directory: StateDirectory) -> DirectoryFigures:
    """The figures of a directory, now. Changes nothing.

    Raises:
        OSError: the directory, or a tally, cannot be read.
    """
    # The tally first: what is counted afterwards is then missing, and not there twice.
    found = DirectoryFigures(
        read_tally(os.path.join(directory.path, SERVICE_TALLY)),
        read_tally(os.path.join(directory.path, STORE_TALLY)),
    )
    space = os.statvfs(directory.path)
    found.free_bytes = space.f_bavail * space.f_frsize
    found.quarantined = sum(1 for _ in aside_paths(directory.quarantine))
    for path in directory.journal_paths():
        found.journals += 1
        try:
            _add_journal(found, directory, path)
        except FileNotFoundError:  # everything was stored, and it has been removed
            continue
        except (LivingAIError, OSError, ValueError):
            found.unreadable += 1
    return found


def _add_journal(found: DirectoryFigures, directory: StateDirectory, path: str) -> None:
    sizes = {
        number: os.stat(os.path.join(path, segment_name(number))).st_size
        for number in segment_numbers(path)
    }
    found.journal_bytes += sum(sizes.values())
    with contextlib.closing(Control(path)) as control:
        journal_id, tail, tail_lsn = control.journal_id, control.tail, control.tail_lsn
        waited_us, synced_tail, boot = control.waited_us, control.synced_tail, control.boot
    counted = found.service.marks.get(journal_id, TallyMark(0, 0)).waited_us
    found.waited_us += max(0, waited_us - counted)
    alive = agent_alive(directory, path)
    if alive and boot == boot_id():
        found.unsynced_bytes += _between(sizes, synced_tail, tail)
    with contextlib.closing(CursorFile(path, journal_id)) as file:
        cursor = file.read()
    if tail_lsn <= cursor.lsn:
        return
    found.queue_records += tail_lsn - cursor.lsn
    if alive:
        found.fullest_bytes = max(found.fullest_bytes, _between(sizes, cursor.position, tail))
    found.oldest_age_s = max(found.oldest_age_s, _oldest_age_s(path, cursor))


def _between(sizes: dict[int, int], start: int, end: int) -> int:
    """Bytes between two positions of a journal whose segments have these sizes."""
    first, last = segment_of(start), segment_of(end)
    if first == last:
        return max(0, end - start)
    whole = sum(size for number, size in sizes.items() if first <= number < last)
    return max(0, whole - (offset_of(start) if first in sizes else 0)) + offset_of(end)


def _oldest_age_s(path: str, cursor: Cursor) -> float:
    """Age of the first record behind a cursor; 0.0 if there is none."""
    start = JournalTail(path, position=cursor.position, after_lsn=cursor.lsn)
    with contextlib.closing(start) as tail:
        first = next(iter(tail.read(alive=True)), None)
        if first is None:
            return 0.0
        if tail.control.boot == boot_id():
            age_ns = time.monotonic_ns() - first.header.mono_ns
        else:
            age_ns = time.time_ns() - first.header.wall_ns
    return max(0, age_ns) / 1e9
