"""The model behind ``tests/property/test_journal_machine.py``: a journal, and a plain list of what
was written to it.

A crash is a copy of the folder as it is at that moment: that is what kill -9 leaves of a page
cache. The copy is read; the journal itself goes on.
"""

import contextlib
import errno
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livingai import failpoint
from livingai.errors import CorruptRecordError, JournalError, JournalFullError
from livingai.inspection.check import check_directory
from livingai.queue.layout import RECORD_HEADER_BYTES, aligned, offset_of, segment_of
from livingai.queue.patch import base_position, is_patch
from livingai.queue.record import Record, parse_header, read_record
from livingai.queue.rescue import Pause
from livingai.queue.segments import Segments
from livingai.queue.tail import JournalTail
from tests.support.journals import (
    LIMITS,
    Consumer,
    Writer,
    crashed,
    failing,
    garbage,
    read_all,
    record_at,
    scratch_folder,
    segment_files,
    state_directory,
)

EXECUTIONS = [f"run-{number}" for number in range(4)]
_executions = st.sampled_from(EXECUTIONS)
#: Nothing, a little, a good part of a segment, just about a segment, more than one.
_sizes = st.one_of(
    st.none(),
    st.integers(0, 200),
    st.integers(900, 1500),
    st.integers(3600, 3800),
    st.integers(4000, 9000),
)
#: How a state differs from the one before: what is done, where (as a part of it), with how much.
_edits = st.tuples(
    st.sampled_from(["append", "insert", "remove", "change"]), st.floats(0, 1), st.integers(1, 100)
)
#: States of so many bytes may be patches.
PATCH_FROM = 500
SEEDS = st.integers(0, 2**32 - 1)


class Written(NamedTuple):
    """What a record has to say when it comes back, and where it lies."""

    lsn: int
    position: int
    node: bytes
    state: bytes
    claim: int
    seq: int
    #: Bytes of its state section, and the record that this is a patch on (0: it is none).
    section: int
    base: int

    @property
    def number(self) -> int:
        return segment_of(self.position)

    @property
    def start(self) -> int:
        return offset_of(self.position)

    @property
    def end(self) -> int:
        """Behind the last byte that counts."""
        return self.start + RECORD_HEADER_BYTES + len(self.node) + self.section


class JournalModel(RuleBasedStateMachine):
    """Writes, syncs, reads and recycles one journal, and knows what every record has to say."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = scratch_folder()
        self.directory = state_directory(self.folder / "state")
        self.writer = Writer(self.directory, patch_from=PATCH_FROM)
        self.journal = self.writer.journal
        self.consumer = Consumer(self.journal.directory)
        self.records: list[Written] = []
        self.last: dict[str, bytes] = {}
        self.copies = 0
        #: fdatasync calls since the last look: (segment, newest lsn, whether it worked); how many
        #: are to fail; records that are durable, and those that no sync of their file can save.
        self.synced: list[tuple[int, int, bool]] = []
        self.failures = 0
        self.durable: set[int] = set()
        self.doomed: set[int] = set()
        self.patch = mock.patch.object(os, "fdatasync", self.fdatasync)
        self.patch.start()
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
            self.consumer.close()
            self.writer.own.close()
            self.writer.cache.close()
            self.patch.stop()
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

    @rule(execution=_executions, size=_sizes, seed=SEEDS)
    def save_any(self, execution: str, size: int | None, seed: int) -> None:
        self.save(execution, size, seed, None if size is None else self.payload(size, seed))

    def save(self, execution: str, size: int | None, seed: int, state: bytes | None) -> None:
        """Save a state; ``size``: of it."""
        numbers = {written.number for written in self.records}
        try:
            at = self.writer.save(execution, state, output=len(self.records))
        except JournalFullError:
            self.check_full(size or 0)
            return
        assert at.lsn == len(self.records) + 1
        self.remember(at.position, execution, state)
        if segment_of(at.position) not in numbers:
            self.check_bounds()

    @rule(execution=_executions, steps=st.lists(_edits, min_size=1, max_size=6), seed=SEEDS)
    def grow(self, execution: str, steps: list[tuple[str, float, int]], seed: int) -> None:
        """States that each resemble the one before."""
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
            self.save(execution, len(state), seed, bytes(state))

    def remember(self, position: int, execution: str, state: bytes | None) -> None:
        place = self.writer.places[execution]
        if state is not None:
            self.last[execution] = state
        self.records.append(
            self.written(position, self.writer.node, state or b"", place.claim, place.seq)
        )

    def written(self, position: int, node: bytes, state: bytes, claim: int, seq: int) -> Written:
        """A new record; what it builds on is looked up in the journal."""
        with closing(Segments(self.journal.directory)) as segments:
            segment = segments.get(segment_of(position))
            assert segment is not None
            header = parse_header(segment.view, offset_of(position))
        assert header is not None
        lsn, base = len(self.records) + 1, 0
        if is_patch(header):
            at = base_position(header)
            (base,) = [w.lsn for w in self.records if w.position == at and not w.base]
        return Written(lsn, position, node, state, claim, seq, header.state_len, base)

    def sizes(self) -> dict[int, int]:
        """Bytes of each segment file."""
        files = segment_files(self.journal.directory)
        return {int(path.stem): path.stat().st_size for path in files}

    def check_full(self, size: int) -> None:
        """It is full only if undrained segments and the current one leave no room for one more."""
        sizes = self.sizes()
        current = max(sizes)
        waiting = [w for w in self.records if w.lsn > self.consumer.lsn]
        built_on = {self.records[w.base - 1].number for w in waiting if w.base}
        undrained = ({w.number for w in waiting} | built_on) - {current}
        held = sum(sizes[number] for number in undrained) + sizes[current]
        need = max(LIMITS.segment_bytes, aligned(size + 128) + 128 + 512)
        assert undrained, "it is full without a record that waits"
        assert held + need > LIMITS.journal_bytes, f"{held} of {LIMITS.journal_bytes} bytes"

    def check_bounds(self) -> None:
        """After a rotation the journal keeps to its bytes, unless one record alone breaks them."""
        sizes = self.sizes()
        assert sum(sizes.values()) <= LIMITS.journal_bytes or len(sizes) <= 2

    @rule(execution=_executions, name=st.sampled_from(["before_append", "after_append"]))
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

    @rule(execution=_executions, function=st.sampled_from(["pwrite", "rename"]))
    def rotation_that_fails(self, execution: str, function: str) -> None:
        """EIO while the next segment is made, recycled, or this one sealed."""
        state = b"x" * 3700
        with failing(function, errno.EIO, times=1):
            try:
                at = self.writer.save(execution, state)
            except JournalFullError:
                self.check_full(len(state))
            except JournalError:
                pass
            else:
                self.remember(at.position, execution, state)

    # -- syncing --

    def fdatasync(self, fd: int) -> None:
        """Replaces ``os.fdatasync``, and records whether the sync of each file worked."""
        number = int(Path(os.readlink(f"/proc/self/fd/{fd}")).stem)
        works = self.failures <= 0
        self.failures -= 1
        self.synced.append((number, self.journal.tail_lsn, works))
        if not works:
            raise OSError(errno.EIO, "the disk fails")

    @rule(failures=st.sampled_from([0, 0, 1, 2]))
    def sync(self, failures: int) -> None:
        """What it says is durable is: in a file whose sync has never failed on it, or in a copy."""
        before = self.journal.synced_lsn
        self.failures = failures
        allowed = JournalError if failures else JournalFullError  # no room for copies
        try:
            synced = self.journal.sync()
        except allowed:
            synced = before
        self.failures = 0
        self.adopt_copies()
        self.judge_files()
        assert synced == self.journal.synced_lsn
        safe = {(w.node, w.claim, w.seq) for w in self.records if w.lsn in self.durable}
        for written in self.records[self.consumer.lsn : synced]:
            if written.base > self.consumer.lsn:  # else the store has that
                base = self.records[written.base - 1]
                assert (base.node, base.claim, base.seq) in safe, "a power loss would take its base"
            assert (written.node, written.claim, written.seq) in safe, "a power loss would take it"
        if synced > before:
            assert (synced, self.journal.unsynced_bytes) == (len(self.records), 0)

    def judge_files(self) -> None:
        """A failed sync marks pages as clean: no later one makes them durable."""
        for number, lsn, works in self.synced:
            here = {w.lsn for w in self.records if w.number == number and w.lsn <= lsn}
            if works:
                self.durable |= here - self.doomed
            else:
                self.doomed |= here - self.durable
        self.synced.clear()

    def adopt_copies(self) -> None:
        """Records that a sync has added: each is a write that was there already."""
        with closing(JournalTail(self.journal.directory)) as tail:
            for found in tail.read(alive=False):
                if found.header.lsn > len(self.records):
                    name = (found.header.claim, found.header.seq)
                    (original, *_) = [w for w in self.records if (w.claim, w.seq) == name]
                    self.records.append(
                        self.written(
                            found.position, original.node, original.state, original.claim,
                            original.seq,
                        )
                    )  # fmt: skip

    @rule()
    def expire(self) -> None:
        self.journal.expire()
        drained = {w.number for w in self.records if w.lsn <= self.consumer.lsn}
        waiting = {w.number for w in self.records if w.lsn > self.consumer.lsn}
        left = set(self.sizes())
        assert waiting <= left
        assert left - waiting - drained - {max(left)} == set() or not self.records

    # -- reading while it lives --

    @rule(most=st.integers(1, 8))
    def consume(self, most: int) -> None:
        expected = self.records[self.consumer.lsn : self.consumer.lsn + most]
        taken = self.consumer.take(most)
        assert [found.header.lsn for found in taken] == [w.lsn for w in expected]
        for found in taken:
            assert found.position == self.records[found.header.lsn - 1].position
            self.same(self.consumer.record(found))
        assert not self.consumer.tail.damage

    @rule()
    def restart_consumer(self) -> None:
        lsn = self.consumer.lsn
        self.consumer.close()
        self.consumer = Consumer(self.journal.directory)
        assert self.consumer.lsn == lsn

    def same(self, record: Record) -> None:
        """It is what was written under that number, and nothing else."""
        written = self.records[record.header.lsn - 1]
        assert (record.node, record.ext, record.state) == (written.node, b"", written.state)
        assert (record.header.claim, record.header.seq) == (written.claim, written.seq)

    @invariant()
    def published(self) -> None:
        if self.records:
            assert self.journal.tail_lsn == len(self.records)

    # -- copies --

    def copy(self) -> str:
        """The state directory as a crash leaves it; the copied journal's folder."""
        self.copies += 1
        target = self.folder / f"copy-{self.copies}"
        crashed(self.directory.path, target)
        return os.path.join(target, "journals", os.path.basename(self.journal.directory))

    def there(self) -> list[Written]:
        """The records whose segment has been neither recycled nor deleted."""
        numbers = set(self.sizes())
        return [w for w in self.records if w.number in numbers]

    def verify(
        self,
        copy: str,
        lost: set[int],
        *,
        extra: int = 0,
        forgotten: bool = False,
        live: bool = True,
        checks: bool = True,
    ) -> None:
        """Read a copy from its oldest segment and from its cursor, as its owner were dead, and
        alive: all is there but ``lost``, which is noted where it was not terminal. ``extra`` is
        a record that was never acknowledged and may be there, too; ``forgotten``: the copy cannot
        know what was terminal, and may miss what was recycled."""
        cursor = self.consumer.lsn
        expected = [w.lsn for w in self.there() if w.lsn not in lost]
        records, tail = read_all(copy)
        seen = [record.header.lsn for record in records if record.header.lsn != extra]
        note(f"lost {lost}, cursor {cursor}, damage {tail.damage}")
        assert seen == expected
        without = self.check_states(copy, seen, lost)
        noted = [n for d in tail.damage for n in range(d.first_lsn, d.last_lsn + 1)]
        assert len(noted) == len(set(noted)), "noted twice"
        assert set(noted) <= (lost | set(range(1, cursor + 1)) if forgotten else lost)
        assert {n for n in noted if n > cursor} == {n for n in lost if n > cursor}
        report = check_directory(Path(copy).parents[1])
        if checks:
            assert report.ok != any(n > cursor for n in lost | without), report.findings
            assert report.counts["records"] == len(records)
        if live:
            self.verify_alive(copy, set(expected))
        self.verify_from_cursor(copy, [n for n in expected if n > cursor], extra, lost)
        shutil.rmtree(Path(copy).parents[1])

    def verify_from_cursor(
        self, copy: str, expected: list[int], extra: int, lost: set[int]
    ) -> None:
        with closing(Consumer(copy)) as consumer:
            taken = consumer.take(alive=False)
            seen = [f.header.lsn for f in taken if f.header.lsn != extra]
            assert [lsn for lsn in seen if lsn > self.consumer.lsn] == expected
            self.check_states(copy, seen, lost)
            assert consumer.take(alive=False) == []

    def check_states(self, copy: str, there: list[int], lost: set[int]) -> set[int]:
        """Each record has the state that was written, or says that what it builds on is damaged or
        gone; those that do."""
        numbers = {w.lsn for w in self.there()} - lost
        without = set()
        with closing(Segments(copy)) as segments:
            for written in (self.records[lsn - 1] for lsn in there):
                try:
                    self.same(record_at(segments, written.position))
                except CorruptRecordError:
                    assert written.base, "it has its whole state"
                    assert written.base not in numbers, "its base is there"
                    assert written.lsn <= self.consumer.lsn or written.base in lost, "it is gone"
                    without.add(written.lsn)
        return without

    def verify_alive(self, copy: str, expected: set[int]) -> None:
        """A living owner's records are not checked by the tail, but by the code that reads them."""
        with closing(JournalTail(copy)) as tail:
            seen = set()
            for found in tail.read(alive=True):
                segment = tail.segments.get(segment_of(found.position))
                assert segment is not None
                try:
                    record = read_record(segment.view, offset_of(found.position))
                except CorruptRecordError:
                    continue
                if not is_patch(record.header):
                    self.same(record)
                seen.add(record.header.lsn)
        assert seen == expected
