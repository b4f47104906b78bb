"""A segment whose outcomes cannot be looked at for now, or that was used not long ago, is neither
reused nor deleted; one that was cut short is whole again once it is reused."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.queue.layout import segment_of
from livingai.queue.reuse import is_settled
from livingai.queue.segments import Segments
from tests.support.journals import (
    LIMITS,
    MET,
    Consumer,
    Writer,
    garbage,
    records,
    segment_files,
    state_directory,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Segment 1 is full, and none of its records has an outcome."""
    limits = dataclasses.replace(LIMITS, cache_ttl_s=3600.0)
    with closing(Writer(state_directory(tmp_path), limits)) as made:
        while not made.journal._space.sealed:
            made.save("run-1", garbage(made.journal.tail_lsn, 500))
        yield made


@pytest.mark.parametrize(
    ("function", "call"),
    [("fstat", 1), ("pread", 1), ("pread", 2), ("pread", 3)],
    ids=["the file", "the outcomes", "a header", "a body"],
)
def test_what_cannot_be_looked_at_now_is_kept(writer: Writer, function: str, call: int) -> None:
    """Unlike a sector that the disk does not give back, that passes."""
    (segment,) = writer.journal._space.sealed
    real, calls = getattr(os, function), 0

    def fail(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOMEM, "no memory for now")
        return real(*arguments)

    with mock.patch.object(os, function, fail):
        assert not is_settled(segment, writer.journal.id)
    assert calls == call
    assert segment.settled == 0
    with closing(Segments(writer.journal.directory)) as segments:
        for each in records(writer.journal.directory):
            if segment_of(each.position) == 1:
                segments.write_outcome(each.position, each.header.lsn, MET, 1)
    assert is_settled(segment, writer.journal.id)


def test_what_was_cut_short_is_whole_again_once_it_is_reused(tmp_path: Path) -> None:
    """What is appended to it then has its room on the disk, as in a new one."""
    limits = dataclasses.replace(LIMITS, cache_bytes=1)
    with closing(Writer(state_directory(tmp_path), limits)) as writer:
        for number in range(2):
            writer.save("run-1", garbage(number, 3000))
        with closing(Consumer(writer.journal.directory)) as consumer:
            consumer.take(1)
        first, _ = segment_files(writer.journal.directory)
        inode = first.stat().st_ino
        os.truncate(first, 1000)
        writer.save("run-1", garbage(2, 3000))
        (reused,) = (
            path for path in segment_files(writer.journal.directory) if path.stat().st_ino == inode
        )
        assert reused != first
        assert reused.stat().st_size == limits.segment_bytes
        assert len(writer.journal._segment.outcomes) == 1, "nothing is left of its former life"


def test_what_was_used_within_its_time_is_kept(writer: Writer) -> None:
    """``cache_ttl_s`` is an hour. It does not matter then that all of it is stored."""
    (segment,) = writer.journal._space.sealed
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take()
    used_ns = segment.touched_ns
    for minutes, kept in ((30, [segment]), (90, [])):
        segment.touched_ns = used_ns - int(minutes * 60e9)
        writer.journal.expire()
        assert writer.journal._space.sealed == kept
