"""A power loss at any moment, whatever the disk had written by then: what ``sync`` has promised is
there, nothing is there that was not written, and the directory can be read and written on.

``tests/support/power_loss.py`` says which states there are. Repeat one run with
``LIVINGAI_SEED``; ``LIVINGAI_TRIES`` is the number of states that are drawn at each moment.
"""

from __future__ import annotations

import errno
import os
import random
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from unittest import mock

import pytest

from livingai.engine.cache import ASK, HotCache
from livingai.errors import CorruptRecordError
from livingai.queue.directory import StateDirectory
from livingai.queue.rescue import Pause
from livingai.queue.segment import segment_name
from livingai.workers.dispatcher.feed import Feed
from tests.support.journals import (
    MET,
    Consumer,
    Writer,
    failing,
    garbage,
    record_at,
    records,
    scratch_folder,
    state_directory,
)
from tests.support.power_loss import Disk, PowerRecorder, any_state, every_state

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or secrets.randbits(32)
TRIES = max(3, int(os.environ.get("LIVINGAI_TRIES", "25")) // 8)
#: The state directory, two levels below the folder that is there already.
INNER = Path("new", "newer", "state")
#: A write: journal, claim, seq.
Write = tuple[int, int, int]


@contextmanager
def boot(number: int) -> Iterator[None]:
    """The machine runs for this time since it was made."""
    with ExitStack() as stack:
        for module in (
            "queue.boots", "queue.tail", "queue.views", "queue.lock", "inspection.journal",
            "inspection.index", "workers.dispatcher.feed",
        ):  # fmt: skip
            name = f"livingai.{module}.boot_id"
            stack.enter_context(mock.patch(name, return_value=bytes([number]) * 16))
        yield


class PowerLoss:
    """Writes into a state directory, and looks at each moment at what a power loss would leave."""

    def __init__(self, folder: Path, seed: int, *, exhaustive: bool = False) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.exhaustive = exhaustive
        self.top = folder / "disk"
        self.top.mkdir()
        self.written: dict[Write, tuple[str, bytes]] = {}
        self.safe: set[Write] = set()
        self.stored: set[Write] = set()
        #: The record that is being written: journal, execution, state.
        self.under_way = (0, "", b"")
        #: A sync has failed: copies come behind what was written after their originals, of which a
        #: power loss may take any. The newest record then: above it may be copies.
        self.copied, self.originals = False, 0
        self.states = 0
        #: How often the machine has started, and what its disk may hold now.
        self.boots = 1
        self.disk: Disk | None = None
        self.recorder = PowerRecorder(self.top, self.look)

    # -- what is done --

    def save(self, writer: Writer, execution: str, size: int) -> None:
        number = len(self.written)
        state = garbage(number // 3, size) + b"%d" % number
        # Known before it is written: a power loss in between may leave it, too.
        self.under_way = (writer.journal.id, execution, state)
        writer.save(execution, state)
        now = writer.places[execution]
        self.written[writer.journal.id, now.claim, now.seq] = (execution, state)

    def sync(self, writer: Writer) -> None:
        before = {w for w in self.written if w[0] == writer.journal.id}
        assert writer.journal.sync() >= len(before)
        self.safe |= before

    def store(self, consumer: Consumer, most: int) -> None:
        """The store has the next ones; then their outcomes are noted and the cursor moves."""
        mine = [write for write in self.written if write[0] == consumer.tail.journal_id]
        expected = mine[consumer.lsn : consumer.lsn + most]
        self.stored |= set(expected)
        assert len(consumer.take(most)) == len(expected)

    def store_rest(self, path: str, most: int) -> None:
        """As :meth:`store`, of a journal that a power loss has left."""
        with closing(Consumer(path)) as consumer:
            behind = [each.header for each in records(path) if each.header.lsn > consumer.lsn]
            journal = consumer.tail.journal_id
            self.stored |= {(journal, header.claim, header.seq) for header in behind[:most]}
            if most:
                consumer.take(most, alive=False)

    def restart(self) -> None:
        """The power is lost; the machine starts again with what its disk has."""
        assert self.disk is not None
        self.recorder.close()
        self.top = any_state(self.disk, self.chance, self.folder / f"disk-{self.boots}")
        self.boots += 1
        self.recorder = PowerRecorder(self.top, self.look)

    # -- what is left --

    def look(self, disk: Disk) -> None:
        """This moment: the states that there may be."""
        self.disk = disk
        target = self.folder / "after"
        if self.exhaustive:
            for state in every_state(disk, target):
                self.judge(state)
        for _ in range(TRIES):
            self.judge(any_state(disk, self.chance, target))

    def judge(self, top: Path) -> None:
        self.states += 1
        with boot(self.boots + 1):
            found = self.drain(top / INNER)
            missing = self.safe - self.stored - found
            assert not missing, f"seed {SEED}: synced writes are gone: {missing}"
            self.write_on(top / INNER)
        shutil.rmtree(top)

    def drain(self, path: Path) -> set[Write]:
        """Read all journals as the service does; the writes that came back whole."""
        found: set[Write] = set()
        directory = StateDirectory(path)
        for journal in sorted(directory.journal_paths()):
            with closing(Feed(journal)) as feed:
                feed.check_owner()
                assert not feed.alive
                self.read(feed, found)
                feed.damage.clear()  # as the dispatcher does with what it has set aside
                assert feed.finished
        with closing(HotCache(directory, ttl_s=3600.0)) as cache:
            for execution, _ in set(self.written.values()):
                assert cache.latest(execution) is ASK, "an index of another boot was used"
        return found

    def read(self, feed: Feed, found: set[Write]) -> None:
        lsn, newest = 0, dict[int, int]()
        while True:
            feed.read_ahead()
            if not feed.ahead:
                break
            item = feed.next()
            header = item.header
            assert header.lsn > lsn, "out of order"
            lsn = header.lsn
            write = (feed.journal_id, header.claim, header.seq)
            try:
                record = record_at(feed.tail.segments, item.at)
            except CorruptRecordError:
                assert write not in self.safe - self.stored, "what it builds on is gone"
            else:
                execution, state = self.written.get(write, self.under_way[1:])
                assert record.state == state, f"seed {SEED}: wrong bytes in {write} of {execution}"
                if write not in found and not (self.copied and header.lsn > self.originals):
                    assert header.seq > newest.get(header.claim, 0), "out of order"
                    newest[header.claim] = header.seq
                found.add(write)
            feed.settle(item, MET, 1)
            feed.advance()
        assert feed.exhausted

    def write_on(self, path: Path) -> None:
        """The next boot's agent begins."""
        writer = Writer(state_directory(path))
        writer.save("run-1", b"after the power loss")
        assert writer.journal.sync() == 1
        writer.die()
        with closing(Feed(writer.journal.directory)) as feed:
            feed.check_owner()
            feed.read_ahead()
            (header, at) = feed.ahead[0]
            assert record_at(feed.tail.segments, at).state == b"after the power loss"
            assert header.lsn == len(feed.ahead) == 1


@pytest.fixture
def folder() -> Iterator[Path]:
    made = scratch_folder()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("exhaustive", [True, False])
def test_a_few_records(folder: Path, *, exhaustive: bool) -> None:
    """One journal in a new directory, two syncs: every state with whole files."""
    loss = PowerLoss(folder, SEED, exhaustive=exhaustive)
    with boot(1), loss.recorder.recording():
        writer = Writer(state_directory(loss.top / INNER))
        for number in range(4):
            loss.save(writer, f"run-{number % 2}", 300)
            if number % 2:
                loss.sync(writer)
        loss.save(writer, "run-1", 10)
        writer.die()
    loss.recorder.close()
    assert len(loss.safe) == 4
    assert loss.states > 50


def test_rotation_recycling_and_a_take_over(folder: Path) -> None:
    """Two journals whose segments are filled, stored and used again, with patches."""
    loss = PowerLoss(folder, SEED + 1)
    with boot(1), loss.recorder.recording():
        directory = state_directory(loss.top / INNER)
        first, second = Writer(directory, patch_from=500), Writer(directory)
        consumer = Consumer(first.journal.directory)
        for number in range(48):
            loss.save(first, "run-1", 900)
            if number % 3 == 1:
                loss.sync(first)
            if number % 2:
                loss.store(consumer, 1 + number % 5)
            if number % 8 == 7:
                loss.save(second, "run-1", 100)
                loss.sync(second)
        assert not Path(first.journal.directory, segment_name(1)).exists(), "none was used again"
        consumer.close()
        first.die()
        second.die()
    loss.recorder.close()


def test_a_sync_that_failed(folder: Path) -> None:
    """What was copied is safe, and counts once."""
    loss = PowerLoss(folder, SEED + 2)
    with boot(1), loss.recorder.recording(), mock.patch.object(Pause, "check"):
        writer = Writer(state_directory(loss.top / INNER), patch_from=500)
        for number in range(6):
            loss.save(writer, "run-1", 700)
            if number == 3:
                loss.copied, loss.originals = True, writer.journal.tail_lsn
                with failing("fdatasync", errno.EIO, times=1):
                    loss.sync(writer)
            elif number % 2:
                loss.sync(writer)
        writer.die()
    loss.recorder.close()
    assert len(loss.safe) == 6


def test_one_loss_after_the_other(folder: Path) -> None:
    """What was safe before a loss is safe after the next one, whatever the service had stored of it
    in between."""
    loss = PowerLoss(folder, SEED + 4)
    for _ in range(4):
        with boot(loss.boots), loss.recorder.recording():
            directory = state_directory(loss.top / INNER)
            for path in directory.journal_paths():
                loss.store_rest(path, loss.chance.randrange(4))
            writer = Writer(directory, patch_from=500)
            for number in range(6):
                loss.save(writer, f"run-{number % 2}", loss.chance.choice((100, 900)))
                if number == 2 or loss.chance.random() < 0.4:  # in each boot something is safe
                    loss.sync(writer)
            writer.die()
        loss.restart()
    loss.recorder.close()
    assert loss.boots == 5
    assert len(loss.safe) > 6


def test_what_a_dead_owner_left_unsynced(folder: Path) -> None:
    """The service syncs the journal of an owner that died before its first sync."""
    loss = PowerLoss(folder, SEED + 3)
    with boot(1), loss.recorder.recording():
        writer = Writer(state_directory(loss.top / INNER))
        for number in range(6):
            loss.save(writer, f"run-{number}", 900)
        writer.die()
        with closing(Feed(writer.journal.directory)) as feed:
            feed.sync()
            loss.safe |= loss.written.keys()
            os.mkdir(loss.top / "a moment later")
    loss.recorder.close()
