"""What the tallies count: the place of each counter in ``service.tally`` and ``store.tally``.

A place keeps its meaning for ever (see ``FORMAT.md``); counters that come later take free places. A
histogram takes one place for each of its bounds and one for what is above the last of them; each
value is counted in one place only, that of the smallest bound which it does not exceed.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import IntEnum
from typing import Final, NamedTuple


class ServiceCounter(IntEnum):
    """Places of single counters in ``service.tally``."""

    #: Sum of the latencies of all records with an outcome, in microseconds.
    LATENCY_US = 8
    #: Microseconds for which saves have waited for room, of all journals.
    WAITED_US = 9


class StoreCounter(IntEnum):
    """Places of single counters in ``store.tally``."""

    #: Bytes of the states in rows that the store took, before they were encoded, and after.
    RAW_BYTES = 0
    STORED_BYTES = 1
    #: Commits that the store did not take as a whole: it was away, busy, full, damaged.
    FAILED = 2
    #: Sum of the durations of commits that it took, in microseconds.
    COMMIT_US = 3
    #: Rows in these commits.
    ROWS = 4


class HistogramPlaces(NamedTuple):
    """Where the counts of a histogram are: ``first``, and one more for each of ``bounds``."""

    first: int
    #: Upper bounds, in the unit that is counted (microseconds, rows).
    bounds: tuple[int, ...]

    def place(self, value: int) -> int:
        """The place where a value is counted."""
        return self.first + bisect_left(self.bounds, value)

    def counts(self, counters: list[int]) -> list[int]:
        """The counts up to each bound, and above the last: not added up."""
        return counters[self.first : self.first + len(self.bounds) + 1]


#: The first of the places of outcomes: one for each status code, which begin with 1.
FIRST_OUTCOME: Final = 0
#: From acceptance to outcome, in microseconds.
LATENCY: Final = HistogramPlaces(16, (
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000, 300_000_000, 3_600_000_000,
))  # fmt: skip
#: Durations of commits, in microseconds.
COMMIT: Final = HistogramPlaces(16, (
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
))  # fmt: skip
#: Rows of commits.
BATCH: Final = HistogramPlaces(40, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000))
#: Counters of a tally that is written now.
COUNTERS: Final = 64
