"""`livingai check --repair`: damage is moved aside, what follows comes back, nothing is deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from livingai.inspection.check import check_directory
from livingai.inspection.findings import Code
from livingai.inspection.oldest import oldest_cursor
from livingai.inspection.repair import repair_directory
from livingai.queue.cursor import CursorFile, create_cursor
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import (
    CURSOR_BYTES,
    CURSOR_SLOT_OFFSETS,
    SERVICE_STATE_BYTES,
    offset_of,
)
from livingai.queue.quarantine import aside_paths, read_aside
from livingai.queue.segment import segment_name
from livingai.queue.segments import Segments
from livingai.queue.tail import JournalTail
from livingai.workers.dispatcher.feed import Feed
from tests.support import hostile
from tests.support.directory_damage import (
    AROUND,
    JOURNAL,
    RECORDS,
    STORED,
    Checked,
    contents,
    file,
    waiting,
)
from tests.support.journals import (
    Consumer,
    Writer,
    flip,
    overwrite,
    records,
    segment_files,
    state_directory,
)
from tests.support.odd import put_odd

Act = Callable[[Checked], object]

#: What is still found after a repair; of all else nothing.
LEFT: dict[Code, set[Code]] = {
    # The service deals with these.
    Code.SEGMENT_HEADER: {Code.SEGMENT_HEADER},
    Code.OUTCOME_DAMAGED: {Code.OUTCOME_DAMAGED},
    # Nothing is wrong with these, or nothing can be done.
    Code.SERVICE_STATE: {Code.SERVICE_STATE},
    Code.LEFTOVER: {Code.LEFTOVER},
    Code.NO_JOURNAL: {Code.NO_JOURNAL},
    Code.NEWER_FORMAT: {Code.NEWER_FORMAT},
    Code.ODD_LOCK: {Code.ODD_LOCK},
    Code.INDEX_STALE: {Code.INDEX_STALE},
    Code.SEGMENT_EMPTY: {Code.SEGMENT_EMPTY},
    Code.RECORD_MISSING_STORED: {Code.RECORD_MISSING_STORED},
    Code.SYNCED_MISSING: {Code.SYNCED_MISSING},
    # Lost, known and kept.
    Code.RECORD_MISSING: {Code.RECORD_ASIDE, Code.QUARANTINED},
}


CASES = {
    **{name: (case[0], case[1]) for name, case in AROUND.items() if name != "no journals"},
    **{name: (case[0], case[1]) for name, case in JOURNAL.items()},
}


@pytest.mark.parametrize(("act", "code"), CASES.values(), ids=CASES)
def test_nothing_is_deleted_and_it_is_done_once(checked: Checked, act: Act, code: Code) -> None:
    act(checked)
    before = contents(checked)
    repair_directory(checked.directory.path)
    assert not before - contents(checked), "bytes are gone"
    left = {finding.code for finding in check_directory(checked.directory.path).findings}
    if act is AROUND["odd service.state"][0]:  # an agent makes it
        left.remove(Code.SERVICE_STATE)
    assert left - {Code.MOVED_ASIDE} == LEFT.get(code, set())
    kept = contents(checked)
    again = repair_directory(checked.directory.path).done
    assert all("left as it is" in what for _, what in again), again
    assert contents(checked) == kept


#: Damage after which the service has all waiting records, or all but one; a lock that is odd in
#: this boot, and a journal of a newer format, keep it from the journal.
ALL = set(range(STORED + 1, RECORDS + 1))
COMES_BACK = {
    name: ALL - {STORED + 3} if name == "waiting record lost" else ALL
    for name in CASES
    if name not in ("owner lock", "a newer format")
}
COMES_BACK["stored without outcome"] = ALL | {5}


@pytest.mark.parametrize("name", COMES_BACK)
def test_what_waits_comes_back(checked: Checked, name: str) -> None:
    CASES[name][0](checked)
    repair_directory(checked.directory.path)
    assert waiting(checked) == COMES_BACK[name]


def test_a_healthy_directory_is_left_as_it_is(checked: Checked) -> None:
    before = contents(checked)
    repaired = repair_directory(checked.directory.path)
    assert (repaired.done, repaired.lost) == ([], False)
    assert contents(checked) == before


def test_damaged_records_are_copied_and_said_to_be_lost(checked: Checked) -> None:
    found = checked.record(STORED + 3)
    checked.damage(STORED + 3)
    path = checked.in_journal(segment_name(found.position >> 32))
    start = offset_of(found.position)
    damaged = path.read_bytes()[start : start + found.header.length]
    repaired = repair_directory(checked.directory.path)
    assert repaired.lost
    (aside,) = aside_paths(checked.directory.quarantine)
    assert Path(aside).read_bytes().endswith(damaged)
    assert read_aside(aside).about["lost"] == [STORED + 3, STORED + 3]
    ((where, what),) = repaired.done
    assert where == checked.where
    assert f"record {STORED + 3} is damaged; what is left of that is in quarantine/" in what
    assert repaired.lines() == [f"repaired: {where}: {what}"]
    assert repaired.to_json() == {"lost": True, "done": [{"where": where, "what": what}]}


def test_the_page_says_what_the_segments_say(checked: Checked) -> None:
    """Then nothing is taken for unpublished, and an agent reads no older state from the index."""
    flip(checked.in_journal("control"), 20 * 8)
    repair_directory(checked.directory.path)
    last = records(checked.journal)[-1]
    with closing(Feed(checked.journal)) as feed:
        control = feed.tail.control
        assert not control.damaged
        assert (control.tail, control.tail_lsn) == (
            last.position + last.header.length, last.header.lsn,
        )  # fmt: skip
        assert feed.same_boot
        assert feed.created_ns
    names = {path.name.rpartition("-")[2] for path in checked.path("quarantine").iterdir()}
    assert names == {"control.odd", "index.odd"}


def test_the_older_cursor_is_kept(checked: Checked) -> None:
    """One of its two places was damaged: the other one counts, before and after."""
    JOURNAL["cursor slot"][0](checked)
    with closing(Feed(checked.journal)) as feed:
        before = feed.cursor.read()
    assert before.lsn
    repair_directory(checked.directory.path)
    with closing(Feed(checked.journal)) as feed:
        assert feed.cursor.read() == before


@pytest.fixture
def recycled(tmp_path: Path) -> str:
    """A journal that has used its segments again; all of it is stored but the last record."""
    directory = state_directory(tmp_path / "recycled")
    Path(directory.service_state).write_bytes(bytes(SERVICE_STATE_BYTES))
    writer = Writer(directory)
    consumer = Consumer(writer.journal.directory)
    for step in range(60):
        consumer.take()
        writer.save("one", b"%d" % step * 300)
    consumer.close()
    writer.close()
    assert segment_files(writer.journal.directory)[0].name != segment_name(1)
    return writer.journal.directory


@pytest.mark.parametrize(
    ("how", "code"),
    [("missing", Code.CURSOR_MISSING), ("odd", Code.CURSOR_ODD), ("wrong", Code.CURSOR_WRONG),
     ("damaged", Code.CURSOR_SLOT), ("zeros", Code.CURSOR_WRONG)],
)  # fmt: skip
def test_without_its_cursor_it_is_not_known_what_was_stored(
    recycled: str, how: str, code: Code
) -> None:
    """What lay in segments that were used again was; but somebody may have deleted them."""
    path, directory = Path(recycled, "cursor"), str(Path(recycled).parents[1])
    journal_id = int(Path(recycled).name, 16)
    if how == "wrong":
        with closing(CursorFile(recycled, journal_id, write=True)) as cursor:
            cursor.write(cursor.read().lsn, cursor.read().position + 64)
    elif how == "zeros":
        path.write_bytes(bytes(CURSOR_BYTES))
    elif how == "damaged":
        for at in CURSOR_SLOT_OFFSETS:
            overwrite(path, at + 8, b"damaged!")
    else:
        path.unlink()
        if how == "odd":
            put_odd("directory", path)
    passed = records(recycled)[0].header.lsn - 1
    codes = {code} if how == "wrong" else {code, Code.RECORD_UNKNOWN}
    found = check_directory(directory).findings
    assert {finding.code for finding in found} == codes
    repaired = repair_directory(directory)
    for said in ([finding.what for finding in found], [what for _, what in repaired.done]):
        gap = any(f"records 1 to {passed} are not there" in what for what in said)
        assert gap is (how != "wrong")
    assert repaired.lost is (how != "wrong")
    assert not list(aside_paths(f"{directory}/quarantine"))
    assert check_directory(directory).errors == []
    with closing(Feed(recycled)) as feed:
        start = feed.cursor.read()
        assert start.lsn == records(recycled)[0].header.lsn - 1
        with closing(JournalTail(recycled, position=start.position, after_lsn=start.lsn)) as tail:
            assert [found.header.lsn for found in tail.read(alive=False)] == [
                found.header.lsn for found in records(recycled)
            ]
            assert (tail.doubt, tail.damage) == ("", [])
        feed.check_owner()
        while not feed.exhausted:
            feed.read_ahead()
            while feed.ahead:
                item = feed.next()
                known = feed.outcome_of(item) is not None
                assert known == (item.header.lsn < records(recycled)[-1].header.lsn)


def test_a_segment_that_was_deleted_with_the_cursor_is_missed(checked: Checked) -> None:
    """Its records had waited; nothing shows that they were never stored."""
    directory = checked.directory.path
    checked.in_journal("cursor").unlink()
    first, second, *_ = segment_files(checked.journal)
    first.unlink()
    with closing(Segments(checked.journal)) as segments:
        last = oldest_cursor(segments, checked.journal_id).lsn
    assert last > 1
    assert second.exists()
    report = check_directory(directory)
    (gap,) = (each.what for each in report.findings if each.code is Code.RECORD_UNKNOWN)
    assert gap.startswith(f"records 1 to {last} are not there: stored before the segment was")
    assert repair_directory(directory).lost
    assert check_directory(directory).ok


def test_a_repair_that_was_killed_with_an_empty_cursor_goes_on(recycled: str) -> None:
    directory = str(Path(recycled).parents[1])
    Path(recycled, "cursor").unlink()
    create_cursor(recycled)
    repair_directory(directory)
    assert not list(aside_paths(f"{directory}/quarantine"))
    assert check_directory(directory).ok


def test_a_damaged_oldest_segment_is_not_passed(recycled: str) -> None:
    """Its records may wait, and its header does not say how many there were before."""
    overwrite(segment_files(recycled)[0], 20, b"xxxx")
    Path(recycled, "cursor").unlink()
    repair_directory(Path(recycled).parents[1])
    with closing(CursorFile(recycled, int(Path(recycled).name, 16))) as cursor:
        assert cursor.read() == (0, 0)
    last = records(recycled)[-1].header.lsn
    with closing(Feed(recycled)) as feed:
        feed.read_ahead()
        assert feed.ahead[-1].header.lsn == last


def test_what_a_crash_left_is_moved_after_a_while(checked: Checked) -> None:
    names = [".manifest-x", ".report-x", "quarantine/.aside-1"]
    for name in names:
        file(name)(checked)
    assert repair_directory(checked.directory.path).done == [], "a process may be writing it"
    old = time.time() - 100
    for name in names:
        os.utime(checked.path(name), (old, old))
    repaired = repair_directory(checked.directory.path)
    assert sorted(where for where, _ in repaired.done) == sorted(names)
    assert not any(checked.path(name).exists() for name in names)
    codes = [finding.code for finding in check_directory(checked.directory.path).findings]
    assert codes == [Code.MOVED_ASIDE] * 3


def test_a_missing_folder_is_made_and_said_to_be_lost(checked: Checked) -> None:
    checked.path("journals").rename(checked.path("journals-elsewhere"))
    repaired = repair_directory(checked.directory.path)
    assert repaired.lost
    assert check_directory(checked.directory.path).findings == []


@pytest.mark.parametrize("name", ["journals", "quarantine"])
def test_a_file_in_the_place_of_a_folder_is_kept(checked: Checked, name: str) -> None:
    checked.path(name).rename(checked.path("elsewhere"))
    checked.path(name).write_bytes(b"kept")
    repair_directory(checked.directory.path)
    assert checked.path(name).is_dir()
    assert b"kept" in contents(checked)


def test_an_odd_lock_of_an_earlier_boot_is_moved(checked: Checked) -> None:
    hostile.control(checked.journal, "boot_id", lambda is_: is_ + 1)
    put_odd("directory", checked.in_journal(OWNER_LOCK))
    repair_directory(checked.directory.path)
    assert not checked.in_journal(OWNER_LOCK).is_dir()
    assert waiting(checked) == ALL


def test_an_odd_lock_of_an_unknown_boot_stays(checked: Checked) -> None:
    """Neither the page nor a segment says of which boot the journal is: its owner may live."""
    flip(checked.in_journal("control"), 20 * 8)
    for path in segment_files(checked.journal):
        flip(path, 20 * 8)
    lock = checked.in_journal(OWNER_LOCK)
    lock.unlink()
    put_odd("directory", lock)
    done = repair_directory(checked.directory.path).done
    assert [where for where, _ in done] == [f"{checked.where}/{OWNER_LOCK}"]
    assert "it cannot be known whether the journal's owner lives" in done[0][1]
    assert lock.is_dir()


@pytest.mark.parametrize("lock", ["lock", "supervisor_lock"])
def test_no_service_begins_after_an_odd_lock_was_moved(checked: Checked, lock: str) -> None:
    """The lock that the repair holds stays where services look for it."""
    path = Path(getattr(checked.directory, lock))
    path.unlink(missing_ok=True)
    put_odd("directory", path)
    repaired = repair_directory(checked.directory.path)
    assert [where for where, _ in repaired.done] == [path.name]
    assert path.is_file()
    (aside,) = checked.path("quarantine").iterdir()
    assert aside.is_dir()


def test_a_damaged_file_of_the_quarantine_is_not_listed_any_more(checked: Checked) -> None:
    overwrite_to = checked.path("quarantine", "x.record")
    overwrite_to.write_bytes(b"no json\n")
    overwrite(overwrite_to, 0, b"NO")
    repair_directory(checked.directory.path)
    assert list(aside_paths(checked.directory.quarantine)) == []
    assert b"NO json\n" in contents(checked)
