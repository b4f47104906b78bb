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
from hypothesis.stateful import rule

from livingai.queue.cursor import CursorFile
from livingai.queue.layout import (
    CONTROL_BYTES,
    CURSOR_BYTES,
    ControlWord,
    aligned,
)
from livingai.queue.record import pack_record
from tests.support.journal_model import SEEDS, JournalModel
from tests.support.journals import (
    flip,
    garbage,
    overwrite,
    segment_files,
)

#: A place in a file, as a part of its length.
_parts = st.floats(0, 1, exclude_max=True)


class JournalMachine(JournalModel):
    """The model, whose copies are damaged in all the ways that a crash and a disk know."""

    @rule()
    def crash(self) -> None:
        self.verify(self.copy(), set())

    @rule(part=_parts)
    def truncated_segment(self, part: float) -> None:
        """The last segment ends anywhere; mostly where its records are."""
        copy = self.copy()
        path = segment_files(copy)[-1]
        here = [w for w in self.there() if w.number == int(path.stem)]
        size = int(part * (here[-1].end + 200 if here else path.stat().st_size))
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

    @rule(part=st.floats(0, 1), size=st.integers(0, 500))
    def torn_append(self, part: float, size: int) -> None:
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
        torn = whole[: int(part * len(whole))]
        overwrite(path, self.tail_offset(path), torn)
        self.verify(copy, set(), extra=lsn, checks=False)

    @rule(segment=_parts, part=_parts)
    def flipped_bit(self, segment: float, part: float) -> None:
        """One record is hit, or none; all others come back."""
        copy = self.copy()
        files = segment_files(copy)
        path = files[int(segment * len(files))]
        here = [w for w in self.there() if w.number == int(path.stem)]
        end = aligned(here[-1].end) + 128 if here else path.stat().st_size
        bit = int(part * 8 * min(end, path.stat().st_size))
        flip(path, bit)
        hit = {w.lsn for w in here if w.start <= bit // 8 < w.end}
        harmless = any(0 <= bit // 8 - w.start - 120 < 8 for w in here)  # the outcome word
        note(f"bit {bit} of {path.name}")
        self.verify(copy, set() if harmless else hit, checks=bool(hit) and not harmless)

    @rule(segment=_parts)
    def lost_segment(self, segment: float) -> None:
        copy = self.copy()
        files = segment_files(copy)
        path = files[int(segment * len(files))]
        path.unlink()
        lost = {w.lsn for w in self.there() if w.number == int(path.stem)}
        if self.consumer.lsn == 0 and lost and min(lost) == 1:
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
            assert file.read().lsn <= self.consumer.lsn
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


JournalMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestJournal = JournalMachine.TestCase
