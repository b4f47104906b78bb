"""Patches in a journal: what they need is kept, and nothing else is taken for it.

``tests/property/test_journal_machine.py`` has the long way round, with crashes and damage.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livingai.engine.patches import MOST_PATCHES
from livingai.errors import CorruptRecordError, FormatVersionError, JournalError
from livingai.queue import layout
from livingai.queue.control import Control
from livingai.queue.journal import Appended, JournalLimits
from livingai.queue.layout import Flag, offset_of, segment_of
from livingai.queue.patch import base_position, is_patch, standing_bytes, with_state
from livingai.queue.record import Record, execution_hash, parse_header, read_record
from livingai.queue.rescue import Copies, Pause
from livingai.queue.segments import Segments
from livingai.queue.views import JournalView
from tests.support.journals import (
    Consumer,
    Writer,
    failing,
    flip_in_record,
    garbage,
    record_at,
    records,
    segment_files,
    state_directory,
)

#: Segments for two whole states, and a journal that lets a patch reach back over three.
LIMITS = JournalLimits(
    segment_bytes=65536, journal_bytes=12 * 65536, cache_bytes=1, cache_ttl_s=0.0, index_sets=8,
    node_slots=8,
)  # fmt: skip
SIZE = 24_000
FIRST = garbage(1, SIZE)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(state_directory(tmp_path / "state"), LIMITS, patch_from=1000)
    yield made
    made.close()


def grown(step: int, state: bytes = FIRST) -> bytes:
    return state + garbage(100 + step, 50 * step)


def read(writer: Writer, at: Appended) -> bytes:
    with closing(Segments(writer.journal.directory)) as segments:
        return record_at(segments, at.position).state


def raw(writer: Writer, at: Appended) -> Record:
    with closing(Segments(writer.journal.directory)) as segments:
        segment = segments.get(segment_of(at.position))
        assert segment is not None
        return read_record(segment.view, offset_of(at.position))


def store_all(writer: Writer) -> None:
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take()


def fill_segment(writer: Writer) -> None:
    """Another execution fills what is left, so that the next record goes to another segment."""
    number = max(int(path.stem) for path in segment_files(writer.journal.directory))
    while max(int(p.stem) for p in segment_files(writer.journal.directory)) == number:
        writer.save("other", garbage(7, 900))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s + b"one more message",
        lambda s: s[3000:] + garbage(2, 3000),  # a sliding window
        lambda s: b"\xdc\x00\x07" + s[3:-9] + b"\x01" * 9,  # a count in front and one at the end
        lambda s: s[:100] + garbage(3, 500) + s[100:],
        lambda s: s[:20_000],
        lambda s: s,
    ],
    ids=["append", "window", "counters", "insert", "shorter", "same"],
)
def test_what_resembles_the_base_is_a_small_patch(
    writer: Writer, change: Callable[[bytes], bytes]
) -> None:
    writer.save("run", FIRST)
    state = change(FIRST)
    at = writer.save("run", state)
    assert at.patched
    record = raw(writer, at)
    assert len(record.state) < 3600
    assert not record.header.flags & Flag.BASE
    assert read(writer, at) == state
    with closing(JournalView(writer.journal.directory)) as view:  # another process's way
        found = view.read(at.position)
        assert found is not None
        assert found.state == state


def test_what_does_not_is_whole_and_the_next_base(writer: Writer) -> None:
    writer.save("run", FIRST)
    for number in range(1, 4):
        state = garbage(10 + number, SIZE)
        at = writer.save("run", state)
        assert not at.patched
        assert raw(writer, at).header.flags & Flag.BASE
        assert read(writer, at) == state
    at = writer.save("run", state)
    while not at.patched:  # it is compared less often by now
        at = writer.save("run", state)
    assert read(writer, at) == state


def test_a_whole_state_comes_again_and_again(writer: Writer) -> None:
    kinds = [writer.save("run", grown(step)).patched for step in range(3 * MOST_PATCHES)]
    assert kinds[0] is False
    assert kinds.count(False) >= 3
    assert kinds.count(True) > 2 * kinds.count(False)


def test_a_claim_builds_on_nothing_but_its_own_states(writer: Writer) -> None:
    writer.save("run", FIRST)
    assert writer.save("run", grown(1)).patched
    writer.places.pop("run")
    assert not writer.save("run", grown(2)).patched
    assert writer.save("run", grown(3)).patched


def test_the_base_of_a_waiting_patch_is_not_reused(writer: Writer) -> None:
    first = writer.save("run", FIRST)
    fill_segment(writer)
    store_all(writer)
    at = writer.save("run", grown(1))
    assert at.patched
    for step in range(40):  # the cache holds one byte: all else is reused
        writer.save("other", garbage(20 + step, SIZE))
        if step == 8:
            break
    numbers = [int(path.stem) for path in segment_files(writer.journal.directory)]
    assert segment_of(first.position) in numbers
    assert read(writer, at) == grown(1)
    store_all(writer)
    for step in range(12):
        writer.save("other", garbage(80 + step, SIZE))
        store_all(writer)
    numbers = [int(path.stem) for path in segment_files(writer.journal.directory)]
    assert segment_of(first.position) not in numbers
    late = writer.save("run", grown(2))
    assert not late.patched
    assert read(writer, late) == grown(2)


def test_a_base_whose_segment_was_deleted_is_given_up(writer: Writer) -> None:
    """Its bytes are mapped still, but nobody else could read them."""
    writer.save("run", FIRST)
    assert writer.save("run", grown(1)).patched
    fill_segment(writer)
    store_all(writer)
    writer.journal.expire()
    assert len(segment_files(writer.journal.directory)) == 1
    at = writer.save("run", grown(2))
    assert not at.patched
    assert read(writer, at) == grown(2)


def test_a_base_that_lies_far_back_is_given_up(writer: Writer) -> None:
    writer.save("run", FIRST)
    for _ in range(4):
        fill_segment(writer)
    assert not writer.save("run", grown(1)).patched


def test_after_a_failed_sync_the_state_is_whole(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pause, "check", lambda _: None)
    writer.save("run", FIRST)
    at = writer.save("run", grown(1))
    assert at.patched
    with failing("fdatasync", errno.EIO, times=1):
        writer.journal.sync()
    copies = [found for found in records(writer.journal.directory) if found.header.lsn > at.lsn]
    assert [is_patch(found.header) for found in copies] == [False, True]
    assert base_position(copies[1].header) == copies[0].position
    with closing(Segments(writer.journal.directory)) as segments:
        assert [record_at(segments, c.position).state for c in copies] == [FIRST, grown(1)]
    assert not writer.save("run", grown(2)).patched
    assert writer.save("run", grown(3)).patched


def test_a_copy_whose_base_is_not_copied_is_whole(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pause, "check", lambda _: None)
    writer.save("run", FIRST)
    store_all(writer)  # the store has it, so it is not copied; but its pages may be lost
    at = writer.save("run", grown(1))
    assert at.patched
    with failing("fdatasync", errno.EIO, times=1):
        writer.journal.sync()
    (copy,) = [found for found in records(writer.journal.directory) if found.header.lsn > at.lsn]
    assert not is_patch(copy.header)
    assert (copy.header.claim, copy.header.seq) == (writer.places["run"].claim, 2)
    with closing(Segments(writer.journal.directory)) as segments:
        assert record_at(segments, copy.position).state == grown(1)


def test_a_sync_that_fails_on_the_base_alone_takes_the_patch_along(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patch went to another segment while the sync of its base's was under way: that one would
    be synced, and name a base that a power loss takes."""
    monkeypatch.setattr(Pause, "check", lambda _: None)
    writer.save("run", FIRST)
    real, calls = os.fdatasync, []

    def slow_and_failing(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            fill_segment(writer)
            assert writer.save("run", grown(1)).patched
            raise OSError(errno.EIO, "the disk fails")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow_and_failing)
    synced = writer.journal.sync()
    assert synced == writer.journal.tail_lsn
    (path, *_) = segment_files(writer.journal.directory)
    path.write_bytes(bytes(path.stat().st_size))  # what a power loss leaves of it
    found = [f for f in records(writer.journal.directory) if f.header.seq == 2][-1]
    with closing(Segments(writer.journal.directory)) as segments:
        assert record_at(segments, found.position).state == grown(1)


def test_what_builds_on_what_is_copied_is_copied_too(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two segments were made while the sync was under way. One has a patch on what failed, so its
    records are copied and it is never synced itself; the other one builds on that one alone."""
    monkeypatch.setattr(Pause, "check", lambda _: None)
    writer.save("run", FIRST)
    real, calls = os.fdatasync, []

    def slow_and_failing(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            fill_segment(writer)
            assert writer.save("run", grown(1)).patched
            base = writer.save("next", garbage(2, SIZE))
            fill_segment(writer)
            at = writer.save("next", garbage(2, SIZE) + b"more")
            assert at.patched
            assert [segment_of(each.position) for each in (base, at)] == [2, 3]
            raise OSError(errno.EIO, "the disk fails")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow_and_failing)
    assert writer.journal.sync() == writer.journal.tail_lsn
    for path in segment_files(writer.journal.directory)[:2]:
        path.write_bytes(bytes(path.stat().st_size))  # what a power loss leaves of them
    newest = {f.header.execution_hash: f for f in records(writer.journal.directory)
              if f.header.seq == 2}  # fmt: skip
    with closing(Segments(writer.journal.directory)) as segments:
        states = {name: record_at(segments, newest[execution_hash(name)].position).state
                  for name in ("run", "next")}  # fmt: skip
    assert states == {"run": grown(1), "next": garbage(2, SIZE) + b"more"}


def test_a_copy_that_may_lie_too_far_from_its_base_is_whole(writer: Writer) -> None:
    """It goes to the segment that is written now, or to the next one; and a record names no base
    that lies further back than that."""
    base = writer.save("run", FIRST)
    old = raw(writer, writer.save("run", grown(1)))
    furthest = segment_of(base.position) + layout.MOST_SEGMENTS_BACK
    with closing(Copies(writer.journal.directory, set())) as copies:
        assert copies.plan(old, furthest - 1) == (old, base.position)
        assert copies.plan(old, furthest) == (old._replace(state=grown(1)), 0)


def test_a_base_in_a_segment_that_failed_once_is_not_relied_on(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt to copy ended between two segments; the next one does not know the copies of the
    first."""
    monkeypatch.setattr(Pause, "check", lambda _: None)
    first = writer.save("run", FIRST)
    fill_segment(writer)
    writer.journal.sync()
    at = writer.save("run", grown(1))
    assert at.patched
    writer.journal._space.unreliable.add(segment_of(first.position))
    with failing("fdatasync", errno.EIO, times=1):
        writer.journal.sync()
    copies = [f for f in records(writer.journal.directory) if f.header.lsn > at.lsn]
    assert [(f.header.seq, is_patch(f.header)) for f in copies if f.header.seq == 2] == [(2, False)]


def test_a_sync_that_fails_right_behind_an_append_is_noticed(writer: Writer) -> None:
    """The base was written before that: what counts is the number that the append saw."""
    at = writer.save("run", FIRST)
    assert at.reliance == 0
    writer.journal.reliance += 1
    assert not writer.save("run", grown(1)).patched


def test_a_patch_is_never_larger_than_the_state(tmp_path: Path) -> None:
    small = Writer(state_directory(tmp_path / "small"), LIMITS, patch_from=1)
    small.save("run", b"x" * 60)
    assert not small.save("run", b"x" * 60).patched
    small.close()


def test_another_record_at_the_place_of_the_base_is_not_taken_for_it(writer: Writer) -> None:
    """The place is only a hint: claim and number must be those that the patch names."""
    writer.save("run", FIRST)
    at = writer.save("run", grown(1))
    header = raw(writer, at).header
    for wrong in (
        header._replace(base_back=2),
        header._replace(claim=header.claim + 1),
        header._replace(journal_id=1),
        header._replace(execution_hash=1),
        header._replace(base_place=header.base_place + 1),
        header._replace(base_place=1 << 26 | header.base_place),
    ):
        with (
            closing(Segments(writer.journal.directory)) as segments,
            pytest.raises(CorruptRecordError, match="has changed since"),
        ):
            with_state(segments, raw(writer, at)._replace(header=wrong))


def test_a_base_in_a_file_that_was_mapped_too_early_is_found_the_next_time(writer: Writer) -> None:
    """A segment that could not be sealed is made anew, under the same number, in another file."""
    writer.save("run", FIRST)
    fill_segment(writer)
    at = writer.save("run", grown(1))
    assert at.patched
    (path, _) = segment_files(writer.journal.directory)
    real = path.rename(path.with_suffix(".real"))
    path.write_bytes(bytes(LIMITS.segment_bytes))
    with closing(Segments(writer.journal.directory)) as segments:
        with pytest.raises(CorruptRecordError, match="is not there"):
            record_at(segments, at.position)
        real.rename(path)
        assert record_at(segments, at.position).state == grown(1)


def test_what_is_rebuilt_has_the_hash_that_the_patch_names(writer: Writer) -> None:
    writer.save("run", FIRST)
    record = raw(writer, writer.save("run", grown(1)))
    forged = record._replace(state=bytes(16) + record.state[16:])
    with (
        closing(Segments(writer.journal.directory)) as segments,
        pytest.raises(CorruptRecordError, match="is damaged"),
    ):
        with_state(segments, forged)


def test_damage_in_the_base_never_gives_wrong_bytes(writer: Writer) -> None:
    writer.save("run", FIRST)
    at = writer.save("run", grown(1))
    base = records(writer.journal.directory)[0]
    flip_in_record(writer.journal.directory, base, 1000)
    with pytest.raises(CorruptRecordError, match=r"record 2 .* write 1 .* is damaged"):
        read(writer, at)
    # The owner does not build on it any more, either.
    assert not writer.save("run", grown(2)).patched


def test_the_bytes_of_a_patch_that_is_set_aside_are_a_whole_record(writer: Writer) -> None:
    writer.save("run", FIRST)
    at = writer.save("run", grown(1))
    with closing(Segments(writer.journal.directory)) as segments:
        data = standing_bytes(record_at(segments, at.position))
    record = read_record(data, 0)
    assert record.state == grown(1)
    assert not is_patch(record.header)
    assert len(data) == record.header.length
    assert record.header.execution_hash == execution_hash("run")
    assert (record.header.claim, record.header.seq) == (writer.places["run"].claim, 2)


def test_an_append_that_fails_leaves_the_base_as_it_is(writer: Writer) -> None:
    writer.save("run", FIRST)
    with failing("pwritev", errno.EIO, times=1), pytest.raises(JournalError):
        writer.save("run", grown(1))
    at = writer.save("run", grown(2))
    assert read(writer, at) == grown(2)


def test_an_earlier_livingai_refuses_the_journal(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows journals up to number 1, as today's knows none above 2."""
    writer.save("run", FIRST)
    at = writer.save("run", grown(1))
    monkeypatch.setattr("livingai.queue.control.JOURNAL_VERSION", layout.FORMAT_VERSION)
    with pytest.raises(FormatVersionError, match="upgrade"):
        Control(writer.journal.directory)
    monkeypatch.setattr("livingai.queue.record.JOURNAL_VERSION", layout.FORMAT_VERSION)
    with closing(Segments(writer.journal.directory)) as segments:
        segment = segments.get(1)
        assert segment is not None
        assert parse_header(segment.view, layout.SEGMENT_HEADER_BYTES) is not None  # it is whole
        assert parse_header(segment.view, offset_of(at.position)) is None


def test_a_base_that_was_cut_short_is_not_built_on(writer: Writer) -> None:
    """Another program cuts the file behind most of the base, and the next records make it longer
    again: a patch would be made, and the state could not be rebuilt."""
    base = writer.save("run", FIRST)
    (path, *_) = segment_files(writer.journal.directory)
    os.truncate(path, offset_of(base.position) + SIZE - 2000)
    writer.save("other", garbage(7, 900))
    at = writer.save("run", grown(1))
    assert not at.patched
    assert read(writer, at) == grown(1)


def test_a_segment_that_was_cut_short_has_its_length_again_when_it_is_reused(
    writer: Writer,
) -> None:
    """Else appending to it could run out of disk, and readers would map a part of it."""
    writer.save("run", FIRST)
    (path, *_) = segment_files(writer.journal.directory)
    os.truncate(path, 100)
    inode = path.stat().st_ino
    fill_segment(writer)
    store_all(writer)
    fill_segment(writer)
    (again,) = [p for p in segment_files(writer.journal.directory) if p.stat().st_ino == inode]
    assert again.stat().st_size == LIMITS.segment_bytes
