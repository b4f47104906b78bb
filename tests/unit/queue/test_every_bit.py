"""Every bit of a dead owner's journal flipped, and every file cut short at every byte.

Read by the service's own code and by the hot cache. A run takes every so many places, the first of
them by chance (``LIVINGAI_SEED`` repeats it); with the marker ``faults`` it takes all.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai.engine.cache import Ask, HotCache
from livingai.errors import CorruptRecordError
from livingai.inspection.check import check_directory
from livingai.queue.layout import OUTCOME_OFFSET, RECORD_HEADER_BYTES, offset_of, segment_of
from livingai.queue.patch import base_position, is_patch
from livingai.queue.segment import segment_name
from livingai.workers.dispatcher.feed import Feed
from tests.support.journals import (
    Consumer,
    Writer,
    flip,
    garbage,
    record_at,
    records,
    scratch_folder,
    state_directory,
)

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or secrets.randbits(32)
FILES = ["0000000001.seg", "0000000002.seg", "control", "cursor", "index", "owner.lock"]
PASSED = 2


class Victim:
    """A journal of two segments with patches, a seal, and a cursor behind its second record."""

    def __init__(self, folder: Path) -> None:
        self.directory = state_directory(folder / "state")
        writer = Writer(self.directory, patch_from=500)
        self.states: list[tuple[str, bytes]] = []
        while writer.journal._segment.number < 2 or len(self.states) < 12:
            number = len(self.states)
            execution, size = f"run-{number % 2}", 700 if number % 2 else 100
            state = garbage(number // 6, size) + b"%d" % number
            self.states.append((execution, state))
            writer.save(execution, state)
        with closing(Consumer(writer.journal.directory)) as consumer:
            consumer.take(PASSED)
        writer.die()
        self.journal = Path(writer.journal.directory)
        self.found = records(os.fspath(self.journal))
        self.files = {path.name: path.read_bytes() for path in self.journal.iterdir()}
        self.bases = {
            found.header.lsn: base_position(found.header)
            for found in self.found
            if is_patch(found.header)
        }

    def restore(self) -> None:
        """All files as they were."""
        for path in self.journal.iterdir():
            if path.name not in self.files:
                path.unlink()
        for name, content in self.files.items():
            path = self.journal / name
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)

    def hit(self, name: str, first: int, last: int) -> set[int]:
        """The records of which a byte from ``first`` to ``last`` of a file counts: not the outcome
        word, which is outside of the sums, and not the padding."""
        hit = set()
        for header, at in self.found:
            start = offset_of(at)
            body = header.node_len + header.ext_len + header.state_len
            counts = (
                range(start, start + OUTCOME_OFFSET),
                range(start + RECORD_HEADER_BYTES, start + RECORD_HEADER_BYTES + body),
            )
            inside = any(first < part.stop and part.start <= last for part in counts)
            if name == segment_name(segment_of(at)) and inside:
                hit.add(header.lsn)
        return hit

    def judge(self, name: str, hit: set[int], where: str) -> None:
        """What was not hit comes back; what was is reported; nothing is wrong."""
        report = check_directory(self.directory.path)
        must = {lsn for lsn in range(PASSED + 1, len(self.states) + 1) if lsn not in hit}
        gone = {found.position for found in self.found if found.header.lsn in hit}
        lost = set(range(PASSED + 1, len(self.states) + 1)) - must
        assert not (lost and report.ok), f"{where}: `livingai check` does not say so"
        with closing(HotCache(self.directory, ttl_s=3600.0)) as cache:
            for execution in ("run-0", "run-1"):
                answer = cache.latest(execution)
                mine = [state for whose, state in self.states if whose == execution]
                right = mine if name == "index" else mine[-1:]
                assert isinstance(answer, Ask) or answer.record.state in right, where
        with closing(Feed(os.fspath(self.journal))) as feed:
            feed.check_owner()
            seen = set()
            while not feed.exhausted or feed.ahead:
                feed.read_ahead()
                while feed.ahead:
                    header, at = feed.ahead.popleft()
                    seen.add(header.lsn)
                    try:
                        state = record_at(feed.tail.segments, at).state
                    except CorruptRecordError:
                        assert self.bases.get(header.lsn) in gone, f"{where}: {header.lsn}"
                        continue
                    assert state == self.states[header.lsn - 1][1], f"{where}: wrong bytes"
            assert must <= seen, f"{where}: {must - seen} did not come back"
            assert not seen & hit, f"{where}: a record that was hit came back"
            noted = {n for d in feed.damage for n in range(d.first_lsn, d.last_lsn + 1)}
            assert noted - set(range(PASSED + 1)) == lost, f"{where}: {feed.damage}"


@pytest.fixture
def victim() -> Iterator[Victim]:
    folder = scratch_folder()
    yield Victim(folder)
    shutil.rmtree(folder)


def flips(victim: Victim, name: str, stride: int) -> None:
    bits = len(victim.files[name]) * 8
    for bit in range(SEED % stride, bits, stride):
        flip(victim.journal / name, bit)
        hit = victim.hit(name, bit // 8, bit // 8)
        victim.judge(name, hit, f"seed {SEED}, bit {bit} of {name}")
        victim.restore()


def cuts(victim: Victim, name: str, stride: int) -> None:
    size = len(victim.files[name])
    for end in range(SEED % stride, size, stride):
        os.truncate(victim.journal / name, end)
        victim.judge(name, victim.hit(name, end, size), f"seed {SEED}, {name} cut at {end}")
        victim.restore()


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits(victim: Victim, name: str) -> None:
    flips(victim, name, 199)


@pytest.mark.parametrize("name", FILES)
def test_files_cut_short(victim: Victim, name: str) -> None:
    cuts(victim, name, 61)


def test_segments_cut_between_two_records(victim: Victim) -> None:
    """Also below the place that the cursor names."""
    for _, at in victim.found:
        name, end = segment_name(segment_of(at)), offset_of(at)
        os.truncate(victim.journal / name, end)
        hit = victim.hit(name, end, len(victim.files[name]))
        victim.judge(name, hit, f"{name} cut at {end}")
        victim.restore()


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_and_every_cut(victim: Victim, name: str) -> None:
    flips(victim, name, 1)
    cuts(victim, name, 1)
