"""A disk that fails, under a journal: what is then durable."""

from __future__ import annotations

import errno
import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import rule

from livingai.errors import JournalError, JournalFullError
from livingai.queue.tail import JournalTail
from tests.support.journal_copies import JournalCopies


class JournalSyncs(JournalCopies):
    """A journal whose fdatasync fails at will."""

    seen: Counter[str]

    def watch_syncs(self) -> None:
        """Notice all syncs from now on, until ``watched`` is stopped."""
        #: fdatasync calls since the last look: (segment, newest lsn, whether it worked); how many
        #: are to fail; records that are durable, and those that no sync of their file can save.
        self.synced: list[tuple[int, int, bool]] = []
        self.failures = 0
        self.durable: set[int] = set()
        self.doomed: set[int] = set()
        self.watched = mock.patch.object(os, "fdatasync", self.fdatasync)
        self.watched.start()

    def fdatasync(self, fd: int) -> None:
        """Replaces ``os.fdatasync``, and records whether the sync of each file worked."""
        number = int(Path(os.readlink(f"/proc/self/fd/{fd}")).stem)
        works = self.failures <= 0
        self.failures -= 1
        self.synced.append((number, self.journal.tail_lsn, works))
        if not works:
            raise OSError(errno.EIO, "the disk fails")

    @rule(failures=st.sampled_from([0, 1, 1, 2]))
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
        safe = {
            (w.node, w.claim, w.seq)
            for w in self.records
            if w.lsn in self.durable
            and (w.base <= self.stored or w.base in self.durable)  # or the store has that
        }
        for written in self.records[self.stored : synced]:
            name = (written.node, written.claim, written.seq)
            assert name in safe, "a power loss would take it, or what it builds on"
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
                    self.seen["copied"] += 1
                    self.records.append(
                        self.written(
                            found.position, original.node, original.state, original.claim,
                            original.seq,
                        )
                    )  # fmt: skip
