"""Group commit: what counts as safe from power loss, and which names are synced with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from livingai.errors import DiskFullError, JournalError
from livingai.queue import rescue
from livingai.queue.control import NAME as CONTROL
from livingai.queue.layout import segment_of
from livingai.queue.rescue import Pause
from livingai.queue.segment import segment_name
from tests.support.journals import (
    Consumer,
    Writer,
    failing,
    garbage,
    records,
    segment_files,
    state_directory,
)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(state_directory(tmp_path / "state"))
    yield made
    made.close()


@contextmanager
def watching(function: str, before: Callable[[str], None]) -> Iterator[None]:
    """``before(path)`` is called before each ``os.function`` of a descriptor."""
    real = getattr(os, function)

    def call(fd: int) -> None:
        before(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    with mock.patch.object(os, function, call):
        yield


def test_what_is_appended_during_a_sync_is_safe_with_the_next_one(writer: Writer) -> None:
    writer.save("run-1", b"x")
    with watching("fdatasync", lambda _: writer.save("run-1", b"y") and None):
        assert writer.journal.sync() == 1
    assert writer.journal.synced_lsn == 1
    assert writer.journal._control.synced_lsn == 1
    assert writer.journal.unsynced_bytes > 0
    assert writer.journal.sync() == 2
    assert writer.journal._control.synced_lsn == 2
    assert writer.journal.unsynced_bytes == 0


def test_nothing_is_called_safe_before_it_is(writer: Writer) -> None:
    """Neither before the last segment is synced, nor before the names are."""
    said: list[int] = []

    def look(path: str) -> None:
        said.append(writer.journal._control.synced_lsn)

    with watching("fdatasync", look), watching("fsync", look):
        for number in range(3):
            writer.save("run-1", garbage(number, 3000))
        writer.journal.sync()
        assert set(said) == {0}
        said.clear()
        for number in range(3):
            writer.save("run-1", garbage(number, 3000))
        writer.journal.sync()
        assert set(said) == {3}
    assert writer.journal._control.synced_lsn == 6


def test_every_segment_with_new_records_is_synced(writer: Writer) -> None:
    synced: list[str] = []
    for number in range(3):
        writer.save("run-1", garbage(number, 3000))
    with watching("fdatasync", synced.append):
        writer.journal.sync()
        segments = sorted(os.path.basename(path) for path in synced if path.endswith(".seg"))
        assert segments == [f"{number:010d}.seg" for number in (1, 2, 3)]
        synced.clear()
        writer.save("run-1", b"x")
        writer.journal.sync()
    assert [os.path.basename(path) for path in synced] == ["0000000003.seg"]


def synced_names(writer: Writer) -> list[str]:
    synced: list[str] = []
    with watching("fsync", synced.append):
        writer.journal.sync()
    return synced


def test_names_are_synced_once_they_have_changed(writer: Writer) -> None:
    """At first those of all folders above, and the control page; they may be as new."""
    journal = writer.journal.directory
    writer.save("run-1", garbage(1, 3000))
    first = synced_names(writer)
    above = [os.fspath(path) for path in Path(journal).parents]
    assert {os.path.join(journal, CONTROL), journal, *above[:3]} <= set(first)
    writer.save("run-1", b"x")
    assert synced_names(writer) == []
    writer.save("run-1", garbage(2, 3000))
    assert synced_names(writer) == [journal]


def test_names_are_synced_again_where_that_has_failed(writer: Writer) -> None:
    journal = writer.journal.directory
    writer.save("run-1", garbage(1, 3000))
    writer.journal.sync()
    writer.save("run-1", garbage(2, 3000))
    with failing("fsync", errno.EIO, times=1):
        assert writer.journal.sync() > 2, "copies, in another segment"
    assert writer.journal.tail_lsn == writer.journal.synced_lsn
    writer.save("run-1", garbage(3, 3000))
    assert synced_names(writer) == [journal]


def test_copies_of_what_failed_are_synced_themselves(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as safe then is the copy, and not the file that the sync has failed on."""
    monkeypatch.setattr(Pause, "check", lambda _: None)
    writer.save("run-1", b"x")
    synced: list[str] = []
    with failing("fdatasync", errno.EIO, times=1), watching("fdatasync", synced.append):
        assert writer.journal.sync() == writer.journal.tail_lsn == 2
    first, copy = records(writer.journal.directory)
    assert copy.header.lsn == 2
    assert segment_of(copy.position) != segment_of(first.position)
    assert os.path.basename(synced[-1]) == segment_name(segment_of(copy.position))


def test_the_pause_between_attempts_grows_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """``end`` says that the disk has worked in between."""
    now = 0
    monkeypatch.setattr(rescue, "time", SimpleNamespace(monotonic=lambda: now))
    pause = Pause()
    pauses: list[int] = []
    for attempt in range(12):
        if attempt == 9:
            pause.end()
        pause.check()
        began, error = now, JournalError(f"attempt {attempt}")
        for _ in range(2):
            pause.begin(error)  # what the check has raised comes back, too
        while waits(pause):
            now += 1
        pauses.append(now - began)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 1, 2, 4]


def waits(pause: Pause) -> bool:
    try:
        pause.check()
    except JournalError:
        return True
    return False


def test_each_failure_is_made_good_at_once(writer: Writer) -> None:
    """What was copied after the one before is done with: it is no reason to give up now."""
    for number in range(3):
        writer.save("run-1", b"%d" % number)
        with failing("fdatasync", errno.EIO, times=1):
            assert writer.journal.sync() == writer.journal.tail_lsn == 2 * (number + 1)


def test_what_has_failed_counts_only_as_a_copy(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fdatasync of it would succeed and prove nothing. While there is no room for the
    copy, nothing more is safe, and during the pause nothing is tried."""
    now = 0.0
    monkeypatch.setattr(rescue, "time", SimpleNamespace(monotonic=lambda: now))
    writer.save("run-1", b"x")
    with failing("posix_fallocate", errno.ENOSPC) as room:
        with failing("fdatasync", errno.EIO, times=1), pytest.raises(DiskFullError):
            writer.journal.sync()
        tried = room.call_count
        with pytest.raises(DiskFullError):
            writer.journal.sync()
        assert room.call_count == tried > 0
        now += 1000
        with pytest.raises(DiskFullError):
            writer.journal.sync()
        assert room.call_count > tried
    assert writer.journal.synced_lsn == 0
    now += 1000
    assert writer.journal.sync() == writer.journal.tail_lsn == 2
    writer.save("run-1", b"y")
    assert writer.journal.sync() == 3


def test_a_copy_that_fails_too_is_made_again_after_a_pause(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(rescue, "time", SimpleNamespace(monotonic=lambda: now))
    writer.save("run-1", b"x")
    with failing("fdatasync", errno.EIO) as disk:
        for _ in range(2):
            with pytest.raises(JournalError, match="cannot sync"):
                writer.journal.sync()
            assert disk.call_count == 2, "what was written, and its copy"
    assert writer.journal.synced_lsn == 0
    now += 1000
    assert writer.journal.sync() == writer.journal.tail_lsn
    assert {found.header.seq for found in records(writer.journal.directory)} == {1}


def test_a_segment_that_has_failed_and_is_gone_holds_nothing_up(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no room for copies of its records, and then the service has stored them."""
    monkeypatch.setattr(Pause, "check", lambda _: None)
    writer.save("run-1", garbage(1, 3000))
    with (
        failing("posix_fallocate", errno.ENOSPC),
        failing("fdatasync", errno.EIO, times=1),
        pytest.raises(DiskFullError),
    ):
        writer.journal.sync()
    writer.save("run-1", garbage(2, 3000))
    with closing(Consumer(writer.journal.directory)) as consumer:
        consumer.take()
    writer.journal.expire()
    assert [path.name for path in segment_files(writer.journal.directory)] == [segment_name(2)]
    writer.save("run-1", b"x")
    assert writer.journal.sync() == writer.journal.tail_lsn == 3


def test_names_whose_sync_has_failed_are_synced_though_nothing_has_to_be_copied(
    writer: Writer,
) -> None:
    """All records are stored already; those that follow rely on the same names."""
    journal = writer.journal.directory
    writer.save("run-1", b"x")
    with closing(Consumer(journal)) as consumer:
        consumer.take()
    synced: list[str] = []
    with failing("fsync", errno.EIO, times=1), watching("fsync", synced.append):
        assert writer.journal.sync() == writer.journal.tail_lsn == 1
    _, *again = synced
    assert {os.path.join(journal, CONTROL), journal, os.path.dirname(journal)} <= set(again)
