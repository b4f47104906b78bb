"""The service's side of a state directory, without a store."""

from __future__ import annotations

import time

from livingai.queue.directory import StateDirectory
from livingai.queue.record import Record, unpack_outcome
from livingai.workers.dispatcher.feed import Feed, Item
from livingai.workers.dispatcher.intake import Intake
from livingai.workers.dispatcher.outcomes import Outcomes
from tests.support.journals import MET, record_at


class Served:
    """The service's own code takes records in, writes outcomes, moves cursors and tells owners; the
    caller is the store. What an owner is told is checked here: once, and behind the cursor."""

    def __init__(self, directory: StateDirectory) -> None:
        self.intake = Intake(directory)
        self.outcomes = Outcomes(directory.quarantine, self.intake, self, self)
        #: Taken, and without an outcome.
        self.inflight: list[Item] = []
        self._last: dict[Feed, int] = {}
        self._told: set[tuple[str, int]] = set()

    def take(self, most: int = 1 << 30) -> list[Item]:
        """The next records, as the intake orders them; those that have an outcome from an earlier
        life of the service are not in flight."""
        taken = []
        for item in self.intake.take(most):
            taken.append(item)
            self._last[item.feed] = item.header.lsn
            if not self.outcomes.known(item):
                self.inflight.append(item)
        return taken

    def settle(self, item: Item, status: int = MET) -> None:
        """The store has decided a record."""
        self.inflight.remove(item)
        self.outcomes.settle(item, status, time.monotonic_ns())

    def settle_all(self) -> None:
        """The store has taken all, and the owners are told."""
        for item in self.inflight.copy():
            self.settle(item)
        self.outcomes.tell()

    def record(self, item: Item) -> Record:
        """A record, verified, with its whole state. Raises CorruptRecordError."""
        return record_at(item.feed.tail.segments, item.at)

    def close(self) -> None:
        """The service dies: what is in flight stays without outcome."""
        self.intake.close()

    # -- what the service's outcomes need of it --

    def tell(self, feed: Feed, outcomes: list[tuple[int, int]], reasons: dict[int, str]) -> None:
        """The owner gets messages."""
        cursor = feed.cursor.read().lsn
        waiting = [item.header.lsn for item in self.inflight if item.feed is feed]
        assert cursor < min(waiting) if waiting else cursor == self._last[feed], "the cursor"
        for lsn, word in outcomes:
            assert unpack_outcome(lsn, word) is not None
            assert (feed.path, lsn) not in self._told, "it is told twice"
            self._told.add((feed.path, lsn))

    def tell_lost(self, feed: Feed) -> None:
        """The owner gets a message."""

    def settled(self, item: Item, *, stored: bool) -> None:
        """An outcome is written: whoever looks finds it in the journal."""
        assert item.feed.outcome_of(item) is not None

    def kick(self) -> None:
        """There is no loop."""
