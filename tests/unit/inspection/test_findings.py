"""Each thing that ``livingai check`` can report: the damage that it is about, done to a healthy
state directory, is reported, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from docs.draw import rows
from livingai.inspection import journal as journal_check
from livingai.inspection.check import check_directory
from livingai.inspection.findings import FINDINGS, Code, Loss, Severity
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import (
    SERVICE_STATE_BYTES,
    offset_of,
    segment_of,
)
from livingai.queue.lock import OwnerLock
from livingai.queue.patch import with_state
from livingai.queue.quarantine import set_aside
from livingai.queue.record import Record
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from tests.support import hostile
from tests.support.agents import ROOT
from tests.support.directory_damage import (
    AROUND,
    ERROR,
    EXECUTIONS,
    JOURNAL,
    NOTICE,
    RECORDS,
    STORED,
    Checked,
    file,
    folder,
)
from tests.support.journals import (
    MET,
    Writer,
    flip_in_record,
    overwrite,
    records,
    segment_files,
    state_directory,
)
from tests.support.store_damage import CASES


def test_what_is_healthy_is_counted(checked: Checked) -> None:
    set_aside(checked.directory.quarantine, 7, 128, b"x", reason="why")
    report = check_directory(checked.directory.path)
    assert report.ok
    assert dict(report.counts) == {
        "journals": 1, "alive": 0, "segments": len(segment_files(checked.journal)),
        "records": RECORDS, "waiting": RECORDS - STORED, "indexed": len(EXECUTIONS),
        "quarantined": 1,
    }  # fmt: skip
    (found,) = report.findings
    assert (found.code, found.severity, found.where) == (Code.QUARANTINED, NOTICE, "quarantine")


def test_a_living_owner_is_counted(checked: Checked) -> None:
    writer = Writer(checked.directory)
    writer.save("four", b"state")
    assert check_directory(checked.directory.path).counts["alive"] == 1
    writer.close()


@pytest.mark.parametrize(("act", "code", "severity", "where", "what"), AROUND.values(), ids=AROUND)
def test_what_is_around_the_journals(
    checked: Checked,
    act: Callable[[Checked], object],
    code: Code,
    severity: Severity,
    where: str,
    what: str,
) -> None:
    act(checked)
    (found,) = check_directory(checked.directory.path).findings
    assert (found.code, found.severity, found.where) == (code, severity, where)
    assert what in found.what


@pytest.mark.parametrize(
    "name", [".manifest-x", ".report-x", "service.sock", "journals/.gone-1", "journals/.new-1",
             "quarantine/.aside-1"],
)  # fmt: skip
def test_litter_is_counted(checked: Checked, name: str) -> None:
    (folder if name.startswith("journals") else file)(name)(checked)
    assert check_directory(checked.directory.path).counts["litter"] == 1


@pytest.mark.parametrize(
    ("lock", "name"),
    [("supervisor_lock", ".report-x"), ("lock", "service.sock"), ("new", "journals/.new-1")],
)
def test_what_a_living_process_uses_is_no_litter(checked: Checked, lock: str, name: str) -> None:
    (folder if lock == "new" else file)(name)(checked)
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
    (first, second) = check_directory(checked.directory.path).findings
    assert (first.code, first.severity) == (Code.QUARANTINE_DAMAGED, ERROR)
    assert first.where == "quarantine/x.record"
    assert "cannot be read" in first.what
    assert (second.code, second.severity, second.where) == (Code.QUARANTINED, NOTICE, "quarantine")
    assert second.what == "1 records are set aside; see `livingai status`"


# -- the files of a journal -----------------------------------------------------------------------


@pytest.mark.parametrize(("act", "code", "severity", "what"), JOURNAL.values(), ids=JOURNAL)
def test_the_files_of_a_journal(
    checked: Checked, act: Callable[[Checked], object], code: Code, severity: Severity, what: str
) -> None:
    act(checked)
    (found,) = check_directory(checked.directory.path).findings
    assert (found.code, found.severity, found.where) == (code, severity, checked.where)
    assert what in found.what


def test_an_index_of_an_earlier_boot_is_used_by_nobody(checked: Checked) -> None:
    """Its pages were never synced, so it may say anything."""
    JOURNAL["an execution at another"][0](checked)
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
    (found,) = check_directory(checked.directory.path).findings
    assert (found.code, found.severity, found.where) == (Code.SEGMENT_UNUSED, NOTICE, checked.where)
    assert found.what == f"segment {number} is damaged, or its owner died while recycling it"


@pytest.mark.parametrize("stored", [False, True], ids=["waits", "stored meanwhile"])
def test_a_patch_without_its_base(tmp_path: Path, stored: bool) -> None:
    """Once it has its outcome, what it builds on may go; also between two looks of the check."""
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

    def rebuild(segments: Segments, record: Record) -> Record:
        if stored:
            with closing(Segments(journal)) as service:
                service.write_outcome(patch.position, patch.header.lsn, MET, 1)
        return with_state(segments, record)

    with mock.patch.object(journal_check, "with_state", rebuild):
        found = check_directory(directory.path).errors
    what = f"record {patch.header.lsn} holds what has changed"
    told = any(each.code is Code.PATCH_BASE and what in each.what for each in found)
    assert told == (not stored)


def test_a_damaged_record_that_was_set_aside(checked: Checked) -> None:
    """Its loss is known, and what is left is kept."""
    for lsn in (3, STORED, STORED + 1, STORED + 3, STORED + 4):  # the cursor is behind STORED
        checked.damage(lsn)
    folder, about = checked.directory.quarantine, {"reason": "why", "damaged": True}
    set_aside(folder, checked.journal_id, 64, b"", **about, lost=[STORED + 3, STORED + 3])
    set_aside(folder, checked.journal_id + 1, 65, b"", **about, lost=[1, RECORDS])
    set_aside(folder, checked.journal_id, 67, b"", **about, lost=[STORED + 1, STORED + 1])
    known = [Code.QUARANTINED, Code.RECORD_MISSING_STORED, Code.RECORD_ASIDE]
    for odd in ("x", [], [1, None], [5, 1]):
        set_aside(folder, checked.journal_id, 66, b"", **about, lost=odd)
        codes = [finding.code for finding in check_directory(checked.directory.path).findings]
        assert codes == [*known, Code.RECORD_MISSING]
    set_aside(folder, checked.journal_id, 66, b"", **about, lost=[STORED + 4, STORED + 4])
    report = check_directory(checked.directory.path)
    codes = [finding.code for finding in report.findings]
    assert codes == [*known, Code.RECORD_ASIDE]
    what = f"records {STORED + 3} to {STORED + 4} are damaged or missing; what is left is in"
    assert report.findings[-1].what.startswith(what)
    assert report.counts["damaged"] == 5


def test_records_before_the_oldest_ones_without_a_cursor(checked: Checked) -> None:
    first = segment_files(checked.journal)[0]
    first.unlink()
    known = {finding.code for finding in check_directory(checked.directory.path).findings}
    assert known == set(), "the cursor has passed them"
    checked.in_journal("cursor").unlink()
    (unknown,) = (
        finding
        for finding in check_directory(checked.directory.path).findings
        if finding.code is Code.RECORD_UNKNOWN
    )
    last = records(checked.journal)[0].header.lsn - 1
    assert unknown.what.startswith(f"records 1 to {last} are not there")


# -- the table of findings ------------------------------------------------------------------------

#: Findings that have a test of their own instead of a line in a table.
ELSEWHERE = {
    Code.QUARANTINED: test_what_is_healthy_is_counted,
    Code.QUARANTINE_DAMAGED: test_a_quarantined_record_that_cannot_be_read,
    Code.PATCH_BASE: test_a_patch_without_its_base,
    Code.SEGMENT_UNUSED: test_an_empty_segment_body_behind_a_damaged_header,
    Code.RECORD_UNKNOWN: test_records_before_the_oldest_ones_without_a_cursor,
    Code.RECORD_ASIDE: test_a_damaged_record_that_was_set_aside,
}


def test_every_finding_has_a_test() -> None:
    tested = [case[1] for case in (*AROUND.values(), *JOURNAL.values())]
    in_store = {case.code for case in CASES}
    assert not in_store & {*tested, *ELSEWHERE}
    assert {*tested, *ELSEWHERE, *in_store} == set(Code) == set(FINDINGS)


def test_what_a_finding_says_of_itself() -> None:
    for kind in FINDINGS.values():
        assert kind.means
        assert kind.repair
        # What is an error may have lost something, or keeps a record from being stored or read.
        assert kind.loss is not Loss.LOST or kind.severity is ERROR or kind is _ASIDE


def test_the_documented_table_is_the_table_of_findings() -> None:
    titles = ("finding", "how bad", "means", "lost", "`--repair`")
    documented = rows((ROOT / "docs" / "RECOVERY.md").read_text(), *titles)
    assert documented == [
        [f"`{code}`", kind.severity, kind.means, kind.loss, kind.repair]
        for code, kind in FINDINGS.items()
    ]


_ASIDE = FINDINGS[Code.RECORD_ASIDE]
