"""The journal against a plain list: whatever is written, crashes or is damaged, every acknowledged
record up to the damage comes back byte for byte and in order, nothing else ever does, and what is
missing is noted.

A crash is a copy of the folder as it is: that is what kill -9 leaves of a page cache. The copy
is then damaged and read; the journal itself goes on.
"""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from livingai.queue.cursor import CursorFile
from livingai.queue.layout import (
    CONTROL_BYTES,
    CURSOR_BYTES,
    OUTCOME_OFFSET,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    ControlWord,
    aligned,
)
from livingai.queue.record import pack_record
from livingai.queue.segment import segment_name
from tests.support.explored import Explored, Floor
from tests.support.journal_model import (
    SEEDS,
    Edit,
    JournalModel,
    Pace,
    Save,
    some_edits,
    some_paces,
    some_saves,
)
from tests.support.journals import (
    flip,
    garbage,
    overwrite,
    segment_files,
)

#: Which record, segment, byte or bit; taken modulo how many there are.
_any = st.integers(0, (1 << 20) - 1)
#: A bit of a record's header, of its outcome, of what is behind that, of a segment's header, or of
#: all that is used of a segment and a little more.
_Hit = tuple[str, int, int]
_where = st.sampled_from(["header", "header", "outcome", "body", "segment", "anywhere"])
_hits = st.lists(st.tuples(_where, _any, _any), min_size=1, max_size=3)


class JournalMachine(JournalModel):
    """The model, whose copies are damaged in all the ways that a crash and a disk know."""

    @initialize(
        saves=st.lists(some_saves, min_size=10, max_size=20), pace=some_paces,
        failures=st.integers(0, 2), steps=st.lists(some_edits, min_size=2, max_size=4), hits=_hits,
    )  # fmt: skip
    def begin(
        self, saves: list[Save], pace: Pace, failures: int, steps: list[Edit], hits: list[_Hit]
    ) -> None:
        """No example does without these."""
        self.write_it_round(saves, pace, failures)
        self.grow(execution=saves[-1][0], steps=steps, seed=saves[-1][2], pace=pace)
        self.sync(failures)
        self.flipped_bits(hits)

    @rule()
    def crash(self) -> None:
        self.verify(self.copy(), set())

    @rule(size=_any)
    def truncated_segment(self, size: int) -> None:
        """The last segment ends anywhere; mostly where its records are."""
        copy = self.copy()
        path = segment_files(copy)[-1]
        here = [w for w in self.there() if w.number == int(path.stem)]
        size %= here[-1].end + 200 if here else path.stat().st_size
        os.truncate(path, size)
        self.verify(copy, {w.lsn for w in here if w.end > size}, live=False, checks=False)

    @rule(seed=SEEDS, size=st.integers(1, 3000), which=st.integers(0, 3))
    def bytes_behind_the_tail(self, seed: int, size: int, which: int) -> None:
        """Zeros, garbage, or older records follow the last one, and the file is longer."""
        copy = self.copy()
        path = segment_files(copy)[-1]
        data = bytes(size) if which == 0 else self.payload(size, seed if which == 1 else seed * 3)
        os.truncate(path, path.stat().st_size + (size if which == 3 else 0))
        overwrite(path, self.tail_offset(path), data)
        self.verify(copy, set())

    def tail_offset(self, path: Path) -> int:
        here = [w for w in self.there() if w.number == int(path.stem)]
        return aligned(here[-1].end) if here else 128

    @rule(torn=_any, size=st.integers(0, 500))
    def torn_append(self, torn: int, size: int) -> None:
        """The owner died while it wrote the next record."""
        copy = self.copy()
        path = segment_files(copy)[-1]
        lsn, node = len(self.records) + 1, b"node"
        header = pack_record(
            kind=1, flags=1, state_kind=1, journal_id=self.journal.id, segment=int(path.stem),
            lsn=lsn, claim=1, epoch=0, seq=1, mono_ns=1, wall_ns=1, key=1, node=node, ext=b"",
            state=bytes(size), budget_us=1, length=aligned(128 + len(node) + size),
        )  # fmt: skip
        whole = header + node + bytes(size)
        overwrite(path, self.tail_offset(path), whole[: torn % (len(whole) + 1)])
        self.verify(copy, set(), extra=lsn, checks=False)

    @rule(wrong=st.sampled_from(["journal_id", "segment"]), by=st.sampled_from([-1, 1, 99]))
    def foreign_record(self, wrong: str, by: int) -> None:
        """The next record of another journal, or of another segment, follows the last one."""
        copy = self.copy()
        path = segment_files(copy)[-1]
        names = {"journal_id": self.journal.id, "segment": int(path.stem)}
        names[wrong] = max(0, names[wrong] + by) % (1 << 64)
        header = pack_record(
            kind=1, flags=0, state_kind=0, lsn=len(self.records) + 1, claim=1, epoch=0, seq=1,
            mono_ns=1, wall_ns=1, key=1, node=b"", ext=b"", state=b"", budget_us=1, length=128,
            **names,
        )  # fmt: skip
        overwrite(path, self.tail_offset(path), header)
        self.verify(copy, set())

    @rule(hits=_hits)
    def flipped_bits(self, hits: list[_Hit]) -> None:
        """Records that are hit are lost; all others come back."""
        copy = self.copy()
        lost: set[int] = set()
        unknown: set[int] = set()
        others = False
        for name, bit in {self.place_of(hit) for hit in hits}:
            flip(Path(copy, name), bit)
            note(f"bit {bit} of {name}")
            here = [w for w in self.there() if segment_name(w.number) == name]
            hit = {w.lsn for w in here if w.start <= bit // 8 < w.end}
            if any(0 <= bit // 8 - w.start - OUTCOME_OFFSET < 8 for w in here):
                unknown |= hit
                hit = set()
            lost |= hit
            others = others or not hit
        self.verify(copy, lost, checks=not others, unknown=unknown)

    def place_of(self, hit: _Hit) -> tuple[str, int]:
        """The name of a segment file, and the number of a bit in it."""
        where, which, bit = hit
        there, files = self.there(), segment_files(self.journal.directory)
        self.seen[f"flipped, {where}"] += 1
        if where in ("header", "outcome", "body") and there:
            written = there[which % len(there)]
            if where == "outcome":
                return segment_name(written.number), 8 * (written.start + OUTCOME_OFFSET) + bit % 64
            start = written.start + (0 if where == "header" else RECORD_HEADER_BYTES)
            end = written.start + RECORD_HEADER_BYTES if where == "header" else written.end
            return segment_name(written.number), 8 * start + bit % (8 * (end - start))
        path = files[which % len(files)]
        end = min(self.tail_offset(path) + RECORD_HEADER_BYTES, path.stat().st_size)
        return path.name, bit % (8 * (SEGMENT_HEADER_BYTES if where == "segment" else end))

    @rule(segment=_any)
    def lost_segment(self, segment: int) -> None:
        copy = self.copy()
        files = segment_files(copy)
        path = files[segment % len(files)]
        path.unlink()
        lost = {w.lsn for w in self.there() if w.number == int(path.stem)}
        if self.stored == 0 and lost and min(lost) == 1:
            return  # it looks like a journal that was recycled from the start
        self.verify(copy, lost, live=False)

    @rule(bit=st.integers(0, 12 * 64 - 1))
    def flipped_bit_in_the_control_page(self, bit: int) -> None:
        copy = self.copy()
        flip(os.path.join(copy, "control"), bit)
        self.verify(copy, set(), live=bit // 64 != ControlWord.TAIL, checks=False)

    @rule(slot=st.sampled_from([0, 64]), bit=st.integers(0, 255))
    def flipped_bit_in_the_cursor(self, slot: int, bit: int) -> None:
        copy = self.copy()
        flip(os.path.join(copy, "cursor"), 8 * slot + bit)
        with closing(CursorFile(copy, self.journal.id)) as file:
            assert file.read().lsn in self.cursors[-2:], "the newest slot, or the one before"
        self.verify(copy, set(), checks=False)

    @rule(
        name=st.sampled_from(["control", "cursor", "index", "owner.lock"]),
        how=st.sampled_from(["missing", "empty", "zeros", "garbage", "short"]),
        seed=SEEDS,
    )
    def damaged_page(self, name: str, how: str, seed: int) -> None:
        copy = self.copy()
        path = Path(copy, name)
        size = path.stat().st_size
        damage: dict[str, Callable[[], Any]] = {
            "missing": path.unlink,
            "empty": lambda: os.truncate(path, 0),
            "zeros": lambda: path.write_bytes(bytes(size)),
            "garbage": lambda: path.write_bytes(garbage(seed, size)),
            "short": lambda: os.truncate(path, size // 2),
        }
        damage[how]()
        assert size in (CONTROL_BYTES, CURSOR_BYTES) or name in ("index", "owner.lock")
        forgotten = (name, how) == ("cursor", "zeros")  # as if no cursor had ever been written
        self.verify(copy, set(), forgotten=forgotten, checks=False)


#: At most a third of the least that ten runs have come to.
FLOORS = {
    "records": Floor(500, 34),
    "rotations": Floor(250, 34),
    "recycled": Floor(110, 25),
    "evicted executions": Floor(80, 20),
    "patches": Floor(60, 15),
    "copied": Floor(30, 9),
    "cursor held up": Floor(30, 15),
    "flipped, header": Floor(40, 24),
    "flipped, outcome": Floor(20, 12),
    "flipped, body": Floor(5, 3),
    "flipped, segment": Floor(10, 8),
}


class TestJournal(JournalMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=100, stateful_step_count=40)

    def runTest(self) -> None:
        """The examples find nothing, and come to what they are for."""
        JournalMachine.explored = Explored(**FLOORS)
        super().runTest()
        JournalMachine.explored.check()
