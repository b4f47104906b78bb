"""Damage done to a healthy state directory, and what ``livingai check`` has to find of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from livingai.inspection.check import check_directory
from livingai.inspection.findings import Code, Severity
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import (
    CURSOR_SLOT_OFFSETS,
    INDEX_HEADER_BYTES,
    OUTCOME_OFFSET,
    SERVICE_STATE_BYTES,
    SLOT_WORDS,
    ControlWord,
    SlotWord,
    offset_of,
    segment_of,
)
from livingai.queue.segment import segment_name
from livingai.queue.tail import Found
from livingai.workers.dispatcher.feed import Feed
from tests.support import hostile
from tests.support.journals import (
    Consumer,
    Writer,
    flip,
    flip_in_record,
    overwrite,
    records,
    segment_files,
    state_directory,
)
from tests.support.odd import put_odd

EXECUTIONS = ("one", "two", "three")
#: More than one segment of them.
RECORDS = 30
STORED = 20
ERROR, NOTICE = Severity.ERROR, Severity.NOTICE


class Checked:
    """A state directory with one journal of some stored and some waiting records, whose owner has
    ended."""

    def __init__(self, folder: Path) -> None:
        self.directory: StateDirectory = state_directory(folder / "state")
        Path(self.directory.service_state).write_bytes(bytes(SERVICE_STATE_BYTES))
        writer = Writer(self.directory)
        for number in range(RECORDS):
            writer.save(EXECUTIONS[number % 3], b"state" * 10)
        self.journal = writer.journal.directory
        self.journal_id = writer.journal.id
        writer.close()
        consumer = Consumer(self.journal)
        assert len(consumer.take(STORED, alive=False)) == STORED
        consumer.close()

    @property
    def where(self) -> str:
        return f"journals/{os.path.basename(self.journal)}"

    def path(self, *names: str) -> Path:
        return Path(self.directory.path, *names)

    def in_journal(self, name: str) -> Path:
        return Path(self.journal, name)

    def record(self, lsn: int) -> Found:
        return next(found for found in records(self.journal) if found.header.lsn == lsn)

    def damage(self, lsn: int) -> None:
        """Make a record unreadable; the index leads to no node any more, so not to this one."""
        for at in self.node_slots():
            self.write_word(at, 0)
        flip_in_record(self.journal, self.record(lsn), 4)

    def cursor(self, lsn: int, at: int) -> None:
        hostile.cursor(self.journal, self.journal_id, generation=99, lsn=lsn, position=at)

    def end_of(self, lsn: int) -> int:
        found = self.record(lsn)
        return found.position + found.header.length

    def slots(self) -> Iterator[int]:
        """Places in the index file of the executions' slots that are in use."""
        data = self.in_journal("index").read_bytes()
        sets = int.from_bytes(data[24:32], "little")
        for at in range(INDEX_HEADER_BYTES, INDEX_HEADER_BYTES + sets * 4 * SLOT_WORDS * 8, 48):
            if any(data[at : at + 8]):
                yield at

    def node_slots(self) -> Iterator[int]:
        """Places in the index file of the nodes' slots that are in use."""
        data = self.in_journal("index").read_bytes()
        sets, nodes = (int.from_bytes(data[at : at + 8], "little") for at in (24, 32))
        start = INDEX_HEADER_BYTES + sets * 4 * SLOT_WORDS * 8
        for at in range(start, start + 16 * nodes, 16):
            if any(data[at : at + 8]):
                yield at

    def write_word(self, at: int, value: int) -> None:
        overwrite(self.in_journal("index"), at, value.to_bytes(8, "little"))

    def findings(self) -> list[tuple[Severity, str, str]]:
        report = check_directory(self.directory.path)
        return [(each.severity, each.where, each.what) for each in report.findings]


def folder(name: str) -> Callable[[Checked], None]:
    return lambda checked: checked.path(name).mkdir(parents=True)


def file(name: str) -> Callable[[Checked], None]:
    return lambda checked: checked.path(name).touch()


def _odd(name: str) -> Callable[[Checked], None]:
    return lambda checked: put_odd("directory", checked.path(name))


def _nameless(checked: Checked) -> None:
    flip(checked.in_journal("control"), 20 * 8)
    Path(checked.journal).rename(checked.path("journals", "renamed"))


#: What is done, what that is and how bad, where it is reported, and with which words.
AROUND: dict[str, tuple[Callable[[Checked], object], Code, Severity, str, str]] = {
    **{
        f"odd {name}": (
            _odd(name), Code.ODD_FILE, ERROR, name, "where a file should be",
        )
        for name in (
            "service.state", "service.log", "service.lock", "supervisor.lock", "successor.lock",
        )
    },
    "no service state": (
        lambda checked: checked.path("service.state").unlink(),
        Code.SERVICE_STATE, NOTICE, "service.state", "missing or too short",
    ),
    "short service state": (
        lambda checked: checked.path("service.state").write_bytes(b"short"),
        Code.SERVICE_STATE, NOTICE, "service.state", "missing or too short",
    ),
    "half a manifest": (
        file(".manifest-x"),
        Code.LEFTOVER, NOTICE, ".manifest-x", "left from writing manifest",
    ),
    "half a report": (
        file(".report-x"),
        Code.LEFTOVER, NOTICE, ".report-x", "left from writing service.report",
    ),
    "a dead socket": (
        file("service.sock"),
        Code.LEFTOVER, NOTICE, "service.sock", "no service listens there",
    ),
    "no journals": (
        lambda checked: checked.path("journals").rename(checked.path("elsewhere")),
        Code.NO_JOURNALS, ERROR, "journals", "the folder is missing",
    ),
    "no quarantine": (
        lambda checked: checked.path("quarantine").rmdir(),
        Code.NO_QUARANTINE, ERROR, "quarantine", "the folder is missing",
    ),
    "a file among journals": (
        file("journals/notes"), Code.NO_JOURNAL, NOTICE, "journals/notes", "not a journal",
    ),
    "a folder among journals": (
        folder("journals/notes"), Code.NO_JOURNAL, NOTICE, "journals/notes", "not a journal",
    ),
    "a journal of no name": (
        _nameless, Code.JOURNAL_UNREADABLE, ERROR, "journals/renamed", "not named like a journal",
    ),
    "half removed": (
        folder("journals/.gone-1"),
        Code.LEFTOVER, NOTICE, "journals/.gone-1", "left from removing a journal",
    ),
    "half made": (
        folder("journals/.new-1"),
        Code.LEFTOVER, NOTICE, "journals/.new-1", "left from making a journal",
    ),
    "half set aside": (
        file("quarantine/.aside-1"),
        Code.LEFTOVER, NOTICE, "quarantine/.aside-1", "left from setting a record",
    ),
    "odd thing set aside": (
        file("quarantine/x.odd"),
        Code.MOVED_ASIDE, NOTICE, "quarantine/x.odd", "was in the place of",
    ),
}  # fmt: skip


def _outcome(lsn: int, word: int) -> Callable[[Checked], None]:
    def act(checked: Checked) -> None:
        at = checked.record(lsn).position
        path = checked.in_journal(segment_name(segment_of(at)))
        overwrite(path, offset_of(at) + OUTCOME_OFFSET, word.to_bytes(8, "little"))

    return act


def _cursor_slot(checked: Checked) -> None:
    overwrite(checked.in_journal("cursor"), CURSOR_SLOT_OFFSETS[0] + 24, b"damaged!")
    with open(checked.in_journal("cursor"), "r+b") as file:
        file.seek(CURSOR_SLOT_OFFSETS[0])
        file.write(b"\1")


def _slot(word: SlotWord, value: Callable[[Checked], int]) -> Callable[[Checked], None]:
    def act(checked: Checked) -> None:
        checked.write_word(next(checked.slots()) + 8 * word, value(checked))

    return act


def _another(checked: Checked) -> int:
    """The place of a record of another execution than that of the first slot."""
    data = checked.in_journal("index").read_bytes()
    at = next(checked.slots())
    key = int.from_bytes(data[at : at + 8], "little")
    return next(f.position for f in records(checked.journal) if f.header.execution_hash != key)


def _nowhere(checked: Checked) -> int:
    """A place in the journal's last segment where no record begins."""
    return checked.record(RECORDS).position + 64


def _newer(checked: Checked) -> None:
    path = checked.in_journal("control")
    overwrite(path, 8, (99).to_bytes(4, "little"))
    hostile.control(checked.journal, "created_ns", lambda is_: is_)


def _foreign(checked: Checked) -> None:
    """The next segment is one that another process has written."""
    other = Writer(state_directory(checked.directory.path + "-2"))
    other.save("one", b"state")
    (segment,) = segment_files(other.journal.directory)
    other.close()
    number = int(segment_files(checked.journal)[-1].stem) + 1
    hostile.segment(segment, "number", lambda _: number)
    segment.rename(checked.in_journal(segment_name(number)))


JOURNAL: dict[str, tuple[Callable[[Checked], object], Code, Severity, str]] = {
    "control page": (
        lambda checked: flip(checked.in_journal("control"), 20 * 8),
        Code.CONTROL_DAMAGED, ERROR, "the control page is damaged",
    ),
    "a newer format": (
        _newer, Code.NEWER_FORMAT, ERROR, "journal format 99 is newer",
    ),
    "owner lock": (
        lambda checked: put_odd("directory", checked.in_journal(OWNER_LOCK)),
        Code.ODD_LOCK, ERROR, OWNER_LOCK,
    ),
    "no cursor": (
        lambda checked: checked.in_journal("cursor").unlink(),
        Code.CURSOR_MISSING, ERROR, "the cursor file is missing",
    ),
    "odd cursor": (
        lambda checked: put_odd("directory", checked.in_journal("cursor")),
        Code.CURSOR_ODD, ERROR, "cursor",
    ),
    "cursor slot": (
        _cursor_slot,
        Code.CURSOR_SLOT, NOTICE, "a cursor slot is damaged; the older one counts",
    ),
    "no index": (
        lambda checked: checked.in_journal("index").unlink(),
        Code.INDEX_MISSING, ERROR, "the index is missing",
    ),
    "index header": (
        lambda checked: flip(checked.in_journal("index"), 17 * 8),
        Code.INDEX_DAMAGED, ERROR, "the index is damaged",
    ),
    "odd index": (
        lambda checked: put_odd("directory", checked.in_journal("index")),
        Code.INDEX_DAMAGED, ERROR, "the index is damaged",
    ),
    "another journal's segment": (
        _foreign, Code.SEGMENT_FOREIGN, ERROR, "is of journal",
    ),
    "empty segment": (
        lambda checked: checked.in_journal(segment_name(99)).touch(),
        Code.SEGMENT_EMPTY, NOTICE, "segment 99 is empty",
    ),
    "odd segment": (
        lambda checked: put_odd("directory", checked.in_journal(segment_name(99))),
        Code.SEGMENT_ODD, ERROR, "segment 99 is",
    ),
    "segment header": (
        lambda checked: overwrite(segment_files(checked.journal)[-1], 20, b"xxxx"),
        Code.SEGMENT_HEADER, ERROR, "the header of segment",
    ),
    "stored without outcome": (
        _outcome(5, 0),
        Code.RECORD_PASSED, ERROR, "record 5 has no outcome, but the cursor has passed it",
    ),
    "damaged outcome": (
        _outcome(STORED + 2, 1),
        Code.OUTCOME_DAMAGED, ERROR, f"the outcome of record {STORED + 2} is damaged",
    ),
    "waiting record lost": (
        lambda checked: checked.damage(STORED + 3),
        Code.RECORD_MISSING, ERROR, f"record {STORED + 3} is damaged or missing",
    ),
    "stored record lost": (
        lambda checked: checked.damage(3),
        Code.RECORD_MISSING_STORED, NOTICE, "record 3 is damaged or missing, but terminal",
    ),
    "cursor within a record": (
        lambda checked: checked.cursor(STORED, checked.end_of(STORED) + 64),
        Code.CURSOR_WRONG, ERROR, f"not behind record {STORED}",
    ),
    "synced, but not there": (
        lambda checked: hostile.control(
            checked.journal, ControlWord.SYNCED_LSN, lambda _: RECORDS + 5
        ),
        Code.SYNCED_MISSING, ERROR, f"record {RECORDS + 5} is said to be synced, and does not",
    ),
    "an execution at nothing": (
        _slot(SlotWord.STATE, _nowhere), Code.INDEX_STALE, NOTICE, "where there is no record",
    ),
    "an execution at another": (
        _slot(SlotWord.STATE, _another), Code.INDEX_WRONG, ERROR, "where there is another one",
    ),
    "an execution that is newer": (
        _slot(SlotWord.SEQ, lambda _: 1),
        Code.INDEX_WRONG, ERROR, "the index has seq 1 of an execution",
    ),
    "a node at nothing": (
        lambda checked: checked.write_word(next(checked.node_slots()) + 8, _nowhere(checked)),
        Code.INDEX_STALE, NOTICE, "the index has a node at",
    ),
    "a node at another": (
        lambda checked: checked.write_word(
            next(checked.node_slots()) + 8, checked.record(1).position
        ),
        Code.INDEX_WRONG, ERROR, "which is another",
    ),
}  # fmt: skip


def contents(checked: Checked) -> Counter[bytes]:
    """The bytes of every file below the directory. Who holds a lock is written into its file."""
    files = (Path(at, name) for at, _, names in os.walk(checked.directory.path) for name in names)
    return Counter(
        path.read_bytes() for path in files if not path.is_symlink() and path.suffix != ".lock"
    )


def waiting(checked: Checked) -> set[int]:
    """The records that a service takes from the journal."""
    (journal,) = checked.directory.journal_paths()
    with closing(Feed(journal)) as feed:
        feed.check_owner()
        found = set()
        while not feed.exhausted or feed.ahead:
            feed.read_ahead()
            while feed.ahead:
                item = feed.next()
                if feed.outcome_of(item) is None:
                    found.add(item.header.lsn)
    return found
