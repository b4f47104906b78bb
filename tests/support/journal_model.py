"""The model behind ``tests/property/test_journal_machine.py``: a journal, and a plain list of what
was written to it.

A crash is a copy of the folder as it is at that moment: that is what kill -9 leaves of a page
cache. The copy is read; the journal itself goes on.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections import Counter
from typing import ClassVar
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livingai import failpoint
from livingai.errors import JournalError, JournalFullError
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import aligned, segment_of
from livingai.queue.record import execution_hash
from livingai.queue.rescue import Pause
from tests.support.explored import Explored
from tests.support.journal_syncs import JournalSyncs
from tests.support.journals import (
    Writer,
    failing,
    garbage,
    scratch_folder,
    segment_files,
    segment_inodes,
    state_directory,
)
from tests.support.served import Served

#: A few records fill a segment, one drained segment is enough to be used again, and the index has
#: room for fewer executions than there are.
_SEGMENT = 2048
LIMITS = JournalLimits(
    segment_bytes=_SEGMENT, journal_bytes=6 * _SEGMENT, cache_bytes=_SEGMENT, cache_ttl_s=0.0,
    index_sets=1, node_slots=4,
)  # fmt: skip
EXECUTIONS = [f"run-{number}" for number in range(6)]
some_executions = st.sampled_from(EXECUTIONS)
#: Nothing, a little, a good part of a segment, just about a segment, more than one.
_sizes = st.one_of(
    st.none(),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(450, 750),
    st.integers(1550, 1800),
    st.integers(2000, 4500),
)
#: How a state differs from the one before: what is done, where (as a part of it), with how much.
Edit = tuple[str, float, int]
some_edits = st.tuples(
    st.sampled_from(["append", "insert", "remove", "change"]), st.floats(0, 1), st.integers(1, 100)
)
SEEDS = st.integers(0, 2**32 - 1)
Save = tuple[str, int | None, int]
some_saves = st.tuples(some_executions, _sizes, SEEDS)
#: Which record in flight holds the cursor up.
_slow = st.none() | st.integers(0, 8)
#: How many records the service leaves in the journal when it keeps up (20 fill it), and which one
#: of the others is slow.
Pace = tuple[int, int | None]
some_paces = st.tuples(st.integers(0, 8) | st.integers(0, 20), _slow)
#: States of so many bytes may be patches.
PATCH_FROM = 500


class JournalModel(JournalSyncs, RuleBasedStateMachine):
    """Writes, syncs, reads and recycles one journal, and knows what every record has to say."""

    explored: ClassVar[Explored]

    def __init__(self) -> None:
        super().__init__()
        self.folder = scratch_folder()
        self.directory = state_directory(self.folder / "state")
        self.writer = Writer(self.directory, LIMITS, patch_from=PATCH_FROM)
        self.journal = self.writer.journal
        self.journal.watch_reuse(self.check_reuse)
        self.served = Served(self.directory)
        self.records = []
        self.last: dict[str, bytes] = {}
        self.copies = 0
        #: Records up to these are terminal, and taken.
        self.stored = self.taken = 0
        self.settled = set()
        #: What the cursor has said, the newest last.
        self.cursors = [0]
        self.seen: Counter[str] = Counter()
        self.watch_syncs()
        self.no_pause = mock.patch.object(Pause, "check")
        self.no_pause.start()

    def teardown(self) -> None:
        failpoint.arm("")
        self.failures = 0
        try:
            with contextlib.suppress(JournalFullError):  # no room to copy what did not get synced
                self.writer.close()
            self.adopt_copies()
            self.verify(self.copy(), set())
        finally:
            self.explored.add(self.seen)
            self.served.close()
            self.writer.own.close()
            self.writer.cache.close()
            self.watched.stop()
            self.no_pause.stop()
            shutil.rmtree(self.folder)

    # -- writing --

    def payload(self, size: int, seed: int) -> bytes:
        """Random bytes; some hold what looks like records of this very journal."""
        data = bytearray(garbage(seed, size))
        if seed % 3 == 0:
            stale = b"".join(path.read_bytes() for path in segment_files(self.journal.directory))
            for at in range(0, size - 64, 64):
                data[at : at + 64] = stale[(at + seed) & -64 :][:64].ljust(64, b"\0")
        return bytes(data)

    def write_it_round(self, saves: list[Save], pace: Pace, failures: int) -> None:
        """Segments are used again, and a disk fails meanwhile; in the end some records wait."""
        for number, (execution, size, seed) in enumerate(saves):
            self.save(execution, None if size is None else self.payload(size, seed))
            if number == len(saves) // 2:
                self.sync(failures)
            self.keep_up(pace)

    def keep_up(self, pace: Pace) -> None:
        """The service takes records until few are left."""
        behind, slow = pace
        if len(self.records) - self.taken > behind:
            self.consume(len(self.records) - self.taken - behind, slow)

    @rule(saves=st.lists(some_saves, min_size=1, max_size=6), pace=some_paces)
    def save_some(self, saves: list[Save], pace: Pace) -> None:
        self.keep_up(pace)
        for execution, size, seed in saves:
            self.save(execution, None if size is None else self.payload(size, seed))

    def save(self, execution: str, state: bytes | None) -> None:
        before = segment_inodes(self.journal.directory)
        place = self.writer.places.get(execution)
        if place is not None and not self.journal.index.owns(place.slot, execution_hash(execution)):
            self.seen["evicted executions"] += 1
        try:
            at = self.writer.save(execution, state, output=len(self.records))
        except JournalFullError:
            self.seen["full"] += 1
            self.check_full(len(state or b""))
            return
        assert at.lsn == len(self.records) + 1
        self.remember(at.position, execution, state)
        number, files = segment_of(at.position), segment_inodes(self.journal.directory)
        if number > max(before):
            self.seen["rotations"] += 1
            self.seen["recycled"] += files[number] in before.values()
            self.check_bounds()

    def check_reuse(self, number: int) -> None:
        """A segment is about to be reused or deleted: all in it is stored, and so is what builds on
        it."""
        waiting = [w for w in self.records if w.lsn > self.stored]
        assert number not in {w.number for w in waiting}, "a record that waits would be lost"
        assert number not in self.built_on(waiting), "the base of a patch that waits would be lost"

    @rule(
        execution=some_executions, steps=st.lists(some_edits, min_size=1, max_size=6), seed=SEEDS,
        pace=some_paces,
    )  # fmt: skip
    def grow(self, execution: str, steps: list[Edit], seed: int, pace: Pace) -> None:
        """States that each resemble the one before; the first one is perhaps stored before the
        others are written."""
        for step, (how, part, size) in enumerate(steps):
            state = bytearray(self.last.get(execution, b""))
            if not PATCH_FROM <= len(state) < 3000:
                state = bytearray(garbage(seed, 1500))
            at = int(part * len(state))
            if how == "append":
                state += garbage(seed + step, size)
            elif how == "insert":
                state[at:at] = garbage(seed + step, size)
            elif how == "remove":
                del state[at : at + size]
            else:
                state[at : at + 1] = b"!"
            self.save(execution, bytes(state))
            if not step:
                self.keep_up(pace)

    def remember(self, position: int, execution: str, state: bytes | None) -> None:
        place = self.writer.places[execution]
        if state is not None:
            self.last[execution] = state
        written = self.written(position, self.writer.node, state or b"", place.claim, place.seq)
        self.records.append(written)
        self.seen["records"] += 1
        self.seen["patches"] += written.base > 0

    def check_full(self, size: int) -> None:
        """It is full only if undrained segments and the current one leave no room for one more."""
        sizes = self.sizes()
        current = max(sizes)
        waiting = [w for w in self.records if w.lsn > self.stored]
        numbers = {w.number for w in waiting}
        bases = self.built_on([w for w in self.records if w.number in numbers])
        undrained = (numbers | bases) - {current}
        held = sum(sizes[number] for number in undrained) + sizes[current]
        need = max(LIMITS.segment_bytes, aligned(size + 128) + 128 + 512)
        assert undrained, "it is full without a record that waits"
        assert held + need > LIMITS.journal_bytes, f"{held} of {LIMITS.journal_bytes} bytes"

    def check_bounds(self) -> None:
        """After a rotation the journal keeps to its bytes, unless one record alone breaks them."""
        sizes = self.sizes()
        assert sum(sizes.values()) <= LIMITS.journal_bytes or len(sizes) <= 2

    @rule(execution=some_executions, name=st.sampled_from(["before_append", "after_append"]))
    def save_that_fails(self, execution: str, name: str) -> None:
        failpoint.arm(f"journal.{name}=error")
        try:
            self.writer.save(execution, b"never acknowledged")
        except JournalError:
            pass
        else:
            raise AssertionError("the failpoint was not reached")
        finally:
            failpoint.arm("")

    @rule(execution=some_executions, function=st.sampled_from(["pwrite", "rename"]))
    def rotation_that_fails(self, execution: str, function: str) -> None:
        """EIO while the next segment is made, recycled, or this one sealed."""
        state = b"x" * (_SEGMENT - 400)
        with failing(function, errno.EIO, times=1):
            try:
                at = self.writer.save(execution, state)
            except JournalFullError:
                self.check_full(len(state))
            except JournalError:
                pass
            else:
                self.remember(at.position, execution, state)

    @rule()
    def expire(self) -> None:
        self.journal.expire()
        waiting = {w.number for w in self.records if w.lsn > self.stored}
        drained = {w.number for w in self.records if w.lsn <= self.stored}
        left = set(self.sizes())
        assert waiting <= left
        assert left - waiting - drained - {max(left)} == set() or not self.records

    # -- reading while it lives --

    @rule(most=st.integers(1, 8), slow=_slow)
    def consume(self, most: int, slow: int | None) -> None:
        """The service takes records; all that are in flight are stored, newest first, but for one,
        which holds the cursor up."""
        expected = self.records[self.taken : self.taken + most]
        taken = self.served.take(most)
        assert [item.header.lsn for item in taken] == [w.lsn for w in expected]
        for item in taken:
            assert item.at == self.records[item.header.lsn - 1].position
            self.same(self.served.record(item))
            self.taken = item.header.lsn
        flying = self.served.inflight.copy()
        held = flying[slow % len(flying)] if slow is not None and flying else None
        for item in reversed(flying):
            if item is not held:
                self.served.settle(item)
                self.settled.add(item.header.lsn)
        self.served.outcomes.tell()
        self.stored = self.taken if held is None else held.header.lsn - 1
        if self.stored != self.cursors[-1]:
            self.cursors.append(self.stored)
        self.seen["cursor held up"] += self.stored + 1 < self.taken
        (feed,) = self.served.intake.feeds.values()
        assert feed.cursor.read().lsn == self.stored
        assert not feed.damage

    @rule()
    def restart_service(self) -> None:
        """It goes on behind its cursor, and does not store again what has an outcome."""
        flying = {item.header.lsn for item in self.served.inflight}
        self.served.close()
        self.served = Served(self.directory)
        behind, last, self.taken = self.stored, self.taken, self.stored
        taken = self.served.take(last - behind) if last > behind else []
        assert [item.header.lsn for item in taken] == [*range(behind + 1, last + 1)]
        assert {item.header.lsn for item in self.served.inflight} == flying
        self.taken = last

    @invariant()
    def published(self) -> None:
        if self.records:
            assert self.journal.tail_lsn == len(self.records)
