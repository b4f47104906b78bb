"""Copies of a journal as crashes leave them, held against a plain list of what was written.

A crash is a copy of the folder as it is at that moment: that is what kill -9 leaves of a page
cache. The copy is damaged and read; the journal itself goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hypothesis import note

from livingai.errors import CorruptRecordError
from livingai.inspection.check import check_directory
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import Journal
from livingai.queue.layout import RECORD_HEADER_BYTES, offset_of, segment_of
from livingai.queue.patch import base_position, is_patch
from livingai.queue.record import Record, parse_header, read_record
from livingai.queue.segments import Segments
from livingai.queue.tail import JournalTail
from tests.support.journals import crashed, read_all, record_at, segment_files
from tests.support.served import Served


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


class JournalCopies:
    """A journal, what was written to it, and copies of it."""

    folder: Path
    directory: StateDirectory
    journal: Journal
    #: All records, oldest first.
    records: list[Written]
    copies: int
    #: Records that have an outcome, and the one up to which all have.
    settled: set[int]
    stored: int

    def sizes(self) -> dict[int, int]:
        """Bytes of each segment file."""
        files = segment_files(self.journal.directory)
        return {int(path.stem): path.stat().st_size for path in files}

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

    def built_on(self, patches: list[Written]) -> set[int]:
        """The segments with the bases of these."""
        return {self.records[w.base - 1].number for w in patches if w.base}

    def same(self, record: Record) -> None:
        """It is what was written under that number, and nothing else."""
        written = self.records[record.header.lsn - 1]
        assert (record.node, record.ext, record.state) == (written.node, b"", written.state)
        assert (record.header.claim, record.header.seq) == (written.claim, written.seq)

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
        unknown: Collection[int] = (),
    ) -> None:
        """Read a copy from its oldest segment and from its cursor, as its owner were dead, and
        alive: all is there but ``lost``, which is noted where it was not terminal. ``extra`` is
        a record that was never acknowledged and may be there, too; ``forgotten``: the copy cannot
        know what was terminal, and may miss what was recycled. ``unknown``: outcomes that are
        damaged."""
        cursor = self.stored
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
            missed = lost | without - self.settled
            assert report.ok != any(n > cursor for n in missed), report.findings
            assert report.counts["records"] == len(records)
        if live:
            self.verify_alive(copy, set(expected))
        self.verify_from_cursor(copy, [n for n in expected if n > cursor], extra, lost, unknown)
        shutil.rmtree(Path(copy).parents[1])

    def verify_from_cursor(
        self, copy: str, expected: list[int], extra: int, lost: set[int], unknown: Collection[int]
    ) -> None:
        """The service finds its owner dead: it stores what has no outcome, and sets aside what is
        damaged."""
        served = Served(StateDirectory(Path(copy).parents[1]))
        try:
            seen = [i.header.lsn for i in served.take() if i.header.lsn != extra]
            assert [lsn for lsn in seen if lsn > self.stored] == expected
            flying = {i.header.lsn for i in served.inflight} - {extra}
            assert flying == set(seen) - self.settled.difference(unknown)
            served.settle_all()
            self.check_states(copy, seen, lost)
            (feed,) = served.intake.feeds.values()
            assert feed.finished == (not feed.damage)
            served.outcomes.set_damage_aside()
            assert feed.finished
            assert served.take() == []
        finally:
            served.close()

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
                    assert written.lsn <= self.stored or written.base in lost, "it is gone"
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
