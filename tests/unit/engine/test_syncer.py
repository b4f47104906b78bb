"""The syncer: who waits hears of it once the disk has it, or that it has not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.engine.syncer import Syncer
from livingai.errors import JournalClosedError, JournalError
from livingai.promise import Deferred
from livingai.queue.journal import Journal, JournalLimits
from tests.support.journals import Writer, state_directory
from tests.support.patience import patience
from tests.support.waiting import until


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Writer]:
    with closing(Writer(state_directory(tmp_path), JournalLimits())) as writer:
        yield writer


def test_it_answers_once_all_is_synced(owner: Writer) -> None:
    real, seen = owner.journal.sync, []
    with closing(Syncer(owner.journal, 3600.0)) as syncer:
        last = owner.save("run-1", b"x")
        answer: Deferred[int] | None = None

        def sync() -> int:
            seen.append(answer is not None and answer._over)
            return real()

        with mock.patch.object(owner.journal, "sync", sync):
            answer = syncer.wait_for()
            assert answer.result(patience(30)) >= last.lsn
        assert seen == [False]
        assert owner.journal.unsynced_bytes == 0


def test_a_disk_that_fails_is_told(owner: Writer) -> None:
    with closing(Syncer(owner.journal, 3600.0)) as syncer:
        owner.save("run-1", b"x")
        with mock.patch.object(owner.journal, "sync", side_effect=JournalError("the disk")):
            answer = syncer.wait_for()
            with pytest.raises(JournalError, match="the disk"):
                answer.result(patience(30))


def test_an_append_is_synced_within_the_interval(owner: Writer) -> None:
    with closing(Syncer(owner.journal, 0.01)) as syncer:
        for _ in range(3):
            until(lambda: syncer.idle, what="the thread sleeps")
            with mock.patch("livingai.engine.syncer._LOOK_S", 3600.0):
                owner.save("run-1", b"x")
                syncer.wake()
                until(lambda: owner.journal.unsynced_bytes == 0, what="a sync")


def test_an_append_just_behind_its_look_is_not_missed(owner: Writer) -> None:
    """It has found that all is synced, and does not sleep yet."""
    late = threading.Event()

    def append_behind(journal: Journal) -> int:
        unsynced = journal.appended_bytes - journal._commit.synced_bytes
        if journal.tail_lsn == 1 and not unsynced and not late.is_set():
            late.set()
            owner.save("run-1", b"y")
            if syncer.idle:  # as an engine does
                syncer.wake()
        return unsynced

    with (
        mock.patch("livingai.engine.syncer._LOOK_S", 3600.0),
        mock.patch.object(Journal, "unsynced_bytes", property(append_behind)),
        closing(Syncer(owner.journal, 0.01)) as syncer,
    ):
        owner.save("run-1", b"x")
        syncer.wake()
        assert late.wait(patience(30))
        until(lambda: owner.journal.synced_lsn == 2, what="its sync", timeout=20)


def test_its_end_is_a_sync_and_nobody_waits_for_it_then(owner: Writer) -> None:
    syncer = Syncer(owner.journal, 3600.0)
    owner.save("run-1", b"x")
    syncer.close()
    assert owner.journal.unsynced_bytes == 0
    with pytest.raises(JournalClosedError):
        syncer.wait_for().result(patience(30))
    syncer.close()
