"""Each thing that ``livingai check`` can report: the damage that it is about, done to a healthy
state directory, is reported, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livingai.inspection.check import check_directory
from livingai.inspection.report import Severity
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
from livingai.queue.lock import OwnerLock
from livingai.queue.quarantine import set_aside
from livingai.queue.segment import segment_name
from livingai.queue.tail import Found
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


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """It is healthy."""
    found = Checked(tmp_path)
    assert found.findings() == []
    return found


def test_what_is_healthy_is_counted(checked: Checked) -> None:
    set_aside(checked.directory.quarantine, 7, 128, b"x", reason="why")
    report = check_directory(checked.directory.path)
    assert report.ok
    assert dict(report.counts) == {
        "journals": 1, "alive": 0, "segments": len(segment_files(checked.journal)),
        "records": RECORDS, "waiting": RECORDS - STORED, "indexed": len(EXECUTIONS),
        "quarantined": 1,
    }  # fmt: skip
    assert [(f.severity, f.where) for f in report.findings] == [(NOTICE, "quarantine")]


def test_a_living_owner_is_counted(checked: Checked) -> None:
    writer = Writer(checked.directory)
    writer.save("four", b"state")
    assert check_directory(checked.directory.path).counts["alive"] == 1
    writer.close()


def _folder(name: str) -> Callable[[Checked], None]:
    return lambda checked: checked.path(name).mkdir(parents=True)


def _file(name: str) -> Callable[[Checked], None]:
    return lambda checked: checked.path(name).touch()


def _odd(name: str) -> Callable[[Checked], None]:
    return lambda checked: put_odd("directory", checked.path(name))


#: What is done, how bad that is, where it is reported, and with which words.
AROUND: dict[str, tuple[Callable[[Checked], object], Severity, str, str]] = {
    **{
        f"odd {name}": (
            _odd(name), ERROR, name, "where a file should be",
        )
        for name in ("service.state", "service.log", "service.lock", "supervisor.lock")
    },
    "no service state": (
        lambda checked: checked.path("service.state").unlink(),
        NOTICE, "service.state", "missing or too short",
    ),
    "short service state": (
        lambda checked: checked.path("service.state").write_bytes(b"short"),
        NOTICE, "service.state", "missing or too short",
    ),
    "half a manifest": (_file(".manifest-x"), NOTICE, ".manifest-x", "left from writing manifest"),
    "half a report": (_file(".report-x"), NOTICE, ".report-x", "left from writing service.report"),
    "a dead socket": (_file("service.sock"), NOTICE, "service.sock", "no service listens there"),
    "no journals": (
        lambda checked: checked.path("journals").rename(checked.path("elsewhere")),
        ERROR, "journals", "the folder is missing",
    ),
    "no quarantine": (
        lambda checked: checked.path("quarantine").rmdir(),
        ERROR, "quarantine", "the folder is missing",
    ),
    "a file among journals": (
        _file("journals/notes"), NOTICE, "journals/notes", "not a journal",
    ),
    "a folder among journals": (
        _folder("journals/notes"), NOTICE, "journals/notes", "not a journal",
    ),
    "half removed": (
        _folder("journals/.gone-1"), NOTICE, "journals/.gone-1", "left from removing a journal",
    ),
    "half made": (
        _folder("journals/.new-1"), NOTICE, "journals/.new-1", "left from making a journal",
    ),
    "half set aside": (
        _file("quarantine/.aside-1"), NOTICE, "quarantine/.aside-1", "left from setting a record",
    ),
    "odd thing set aside": (
        _file("quarantine/x.odd"), NOTICE, "quarantine/x.odd", "was in the place of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("act", "severity", "where", "what"), AROUND.values(), ids=AROUND)
def test_what_is_around_the_journals(
    checked: Checked, act: Callable[[Checked], object], severity: Severity, where: str, what: str
) -> None:
    act(checked)
    ((found, place, text),) = checked.findings()
    assert (found, place) == (severity, where)
    assert what in text


@pytest.mark.parametrize(
    "name", [".manifest-x", ".report-x", "service.sock", "journals/.gone-1", "journals/.new-1",
             "quarantine/.aside-1"],
)  # fmt: skip
def test_litter_is_counted(checked: Checked, name: str) -> None:
    (_folder if name.startswith("journals") else _file)(name)(checked)
    assert check_directory(checked.directory.path).counts["litter"] == 1


@pytest.mark.parametrize(
    ("lock", "name"),
    [("supervisor_lock", ".report-x"), ("lock", "service.sock"), ("new", "journals/.new-1")],
)
def test_what_a_living_process_uses_is_no_litter(checked: Checked, lock: str, name: str) -> None:
    (_folder if lock == "new" else _file)(name)(checked)
    held = checked.path(name, OWNER_LOCK) if lock == "new" else getattr(checked.directory, lock)
    owner = OwnerLock.acquire(os.fspath(held))
    assert owner is not None
    try:
        assert checked.findings() == []
    finally:
        owner.release()


@pytest.mark.parametrize("data", [b"", b"no json\n", b"7\n", b"{}"])
def test_a_quarantined_record_that_cannot_be_read(checked: Checked, data: bytes) -> None:
    checked.path("quarantine", "x.record").write_bytes(data)
    (first, second) = checked.findings()
    assert first[:2] == (ERROR, "quarantine/x.record")
    assert "cannot be read" in first[2]
    assert second == (NOTICE, "quarantine", "1 records are set aside; see `livingai status`")


# -- the files of a journal -----------------------------------------------------------------------


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


JOURNAL: dict[str, tuple[Callable[[Checked], object], Severity, str]] = {
    "control page": (
        lambda checked: flip(checked.in_journal("control"), 20 * 8),
        ERROR, "the control page is damaged",
    ),
    "a newer format": (
        _newer, ERROR, "journal format 99 is newer",
    ),
    "owner lock": (
        lambda checked: put_odd("directory", checked.in_journal(OWNER_LOCK)), ERROR, OWNER_LOCK,
    ),
    "no cursor": (
        lambda checked: checked.in_journal("cursor").unlink(), ERROR, "the cursor file is missing",
    ),
    "odd cursor": (
        lambda checked: put_odd("directory", checked.in_journal("cursor")), ERROR, "cursor",
    ),
    "cursor slot": (_cursor_slot, NOTICE, "a cursor slot is damaged; the older one counts"),
    "no index": (
        lambda checked: checked.in_journal("index").unlink(), ERROR, "the index is missing",
    ),
    "index header": (
        lambda checked: flip(checked.in_journal("index"), 17 * 8),
        ERROR, "the index is damaged",
    ),
    "odd index": (
        lambda checked: put_odd("directory", checked.in_journal("index")),
        ERROR, "the index is damaged",
    ),
    "empty segment": (
        lambda checked: checked.in_journal(segment_name(99)).touch(),
        NOTICE, "segment 99 is empty",
    ),
    "odd segment": (
        lambda checked: put_odd("directory", checked.in_journal(segment_name(99))),
        ERROR, "segment 99 is",
    ),
    "segment header": (
        lambda checked: overwrite(segment_files(checked.journal)[-1], 20, b"xxxx"),
        ERROR, "the header of segment",
    ),
    "stored without outcome": (
        _outcome(5, 0), ERROR, "record 5 has no outcome, but the cursor has passed it",
    ),
    "damaged outcome": (
        _outcome(STORED + 2, 1), ERROR, f"the outcome of record {STORED + 2} is damaged",
    ),
    "waiting record lost": (
        lambda checked: checked.damage(STORED + 3),
        ERROR, f"record {STORED + 3} is damaged or missing",
    ),
    "stored record lost": (
        lambda checked: checked.damage(3), NOTICE, "record 3 is damaged or missing, but terminal",
    ),
    "cursor within a record": (
        lambda checked: checked.cursor(STORED, checked.end_of(STORED) + 64),
        ERROR, f"not behind record {STORED}",
    ),
    "synced, but not there": (
        lambda checked: hostile.control(
            checked.journal, ControlWord.SYNCED_LSN, lambda _: RECORDS + 5
        ),
        ERROR, f"record {RECORDS + 5} is said to be synced, and does not exist",
    ),
    "an execution at nothing": (
        _slot(SlotWord.STATE, _nowhere), NOTICE, "where there is no record",
    ),
    "an execution at another": (
        _slot(SlotWord.STATE, _another), ERROR, "where there is another one",
    ),
    "an execution that is newer": (
        _slot(SlotWord.SEQ, lambda _: 1), ERROR, "the index has seq 1 of an execution",
    ),
    "a node at nothing": (
        lambda checked: checked.write_word(next(checked.node_slots()) + 8, _nowhere(checked)),
        NOTICE, "the index has a node at",
    ),
    "a node at another": (
        lambda checked: checked.write_word(
            next(checked.node_slots()) + 8, checked.record(1).position
        ),
        ERROR, "which is another",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("act", "severity", "what"), JOURNAL.values(), ids=JOURNAL)
def test_the_files_of_a_journal(
    checked: Checked, act: Callable[[Checked], object], severity: Severity, what: str
) -> None:
    act(checked)
    found = checked.findings()
    assert found
    assert any(
        each[:2] == (severity, checked.where) and what in each[2] for each in found
    ), found  # fmt: skip
    assert len(found) == 1, found


def test_an_index_of_an_earlier_boot_is_used_by_nobody(checked: Checked) -> None:
    """Its pages were never synced, so it may say anything."""
    _slot(SlotWord.STATE, _another)(checked)
    assert [found[0] for found in checked.findings()] == [ERROR]
    hostile.index(checked.journal, "boot_id", lambda is_: is_ ^ 1)
    assert checked.findings() == []
    assert check_directory(checked.directory.path).counts["indexed"] == 0


def test_the_cursor_is_behind_what_was_ever_written(checked: Checked) -> None:
    checked.cursor(RECORDS + 7, checked.end_of(RECORDS))
    found = checked.findings()
    what = f"the cursor is behind record {RECORDS + 7}, which does not exist"
    assert (ERROR, checked.where, what) in found


def test_the_last_record_is_missing(checked: Checked) -> None:
    """The owner has said that it is complete, so its loss is seen though nothing follows."""
    last = checked.record(RECORDS)
    path = segment_files(checked.journal)[-1]
    overwrite(path, offset_of(last.position), bytes(last.header.length))
    assert checked.findings()[0] == (
        ERROR, checked.where, f"record {RECORDS} is damaged or missing",
    )  # fmt: skip
    assert check_directory(checked.directory.path).counts["damaged"] == 1


@pytest.mark.parametrize("field", ["journal_id", "segment", "lsn"])
def test_a_record_that_is_of_another_place(checked: Checked, field: str) -> None:
    """Its sums fit: it was left by another journal, or by an earlier life of the segment."""
    checked.damage(STORED + 5)  # so that the index is out of the way
    at = checked.record(STORED + 3).position
    path = checked.in_journal(segment_name(segment_of(at)))
    change = {"lsn": lambda _: 1}.get(field, lambda is_: is_ + 1)
    hostile.record(path, offset_of(at), field, change)
    what = f"record {STORED + 3} is damaged or missing"
    assert (ERROR, checked.where, what) in checked.findings()


def test_a_record_whose_body_is_damaged(checked: Checked) -> None:
    found = checked.record(STORED + 3)
    flip_in_record(checked.journal, found, found.header.state_offset)
    what = f"record {STORED + 3} is damaged or missing"
    assert (ERROR, checked.where, what) in checked.findings()


def test_several_records_in_a_row(checked: Checked) -> None:
    for lsn in (STORED + 4, STORED + 3):
        checked.damage(lsn)
    what = f"records {STORED + 3} to {STORED + 4} are damaged or missing"
    assert (ERROR, checked.where, what) in checked.findings()
    assert check_directory(checked.directory.path).counts["damaged"] == 2


def test_an_empty_segment_body_behind_a_damaged_header(checked: Checked) -> None:
    number = int(segment_files(checked.journal)[-1].stem) + 1
    checked.in_journal(segment_name(number)).write_bytes(bytes(4096))
    ((severity, where, what),) = checked.findings()
    assert (severity, where) == (NOTICE, checked.where)
    assert what == f"segment {number} is damaged, or its owner died while recycling it"


def test_a_patch_without_its_base(tmp_path: Path) -> None:
    directory = state_directory(tmp_path / "state")
    Path(directory.service_state).write_bytes(bytes(SERVICE_STATE_BYTES))
    writer = Writer(directory, patch_from=64)
    state = os.urandom(700)
    writer.save("one", state)
    assert writer.save("one", state + b"more").patched
    journal = writer.journal.directory
    writer.close()
    assert check_directory(directory.path).findings == []
    base, patch = records(journal)
    flip_in_record(journal, base, base.header.state_offset + 8)
    found = check_directory(directory.path).errors
    assert any(f"record {patch.header.lsn} holds what has changed" in each.what for each in found)
