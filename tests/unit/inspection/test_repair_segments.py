"""`livingai check --repair`: segments in the folder of another journal go home."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from livingai.inspection.check import check_directory
from livingai.inspection.findings import Code
from livingai.inspection.repair import repair_directory
from livingai.queue.directory import StateDirectory
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import (
    OUTCOME_OFFSET,
    offset_of,
    segment_of,
)
from livingai.queue.quarantine import aside_paths
from livingai.queue.segment import segment_name
from tests.support import hostile
from tests.support.directory_damage import (
    RECORDS,
    Checked,
    waiting,
)
from tests.support.journals import (
    Consumer,
    Writer,
    flip_in_record,
    overwrite,
    records,
    segment_files,
    untrue_cursor,
)
from tests.support.odd import put_odd


def test_a_segment_goes_home(checked: Checked) -> None:
    """It lies in another journal's folder, and its own one misses it."""
    other = Writer(checked.directory)
    other.save("four", b"state")
    home = Path(other.journal.directory)
    other.close()
    (segment,) = segment_files(os.fspath(home))
    number = int(segment_files(checked.journal)[-1].stem) + 1
    hostile.segment(segment, "number", lambda _: number)
    name = segment_name(number)
    data = segment.read_bytes()
    segment.rename(checked.in_journal(name))
    codes = {finding.code for finding in check_directory(checked.directory.path).findings}
    assert Code.SEGMENT_FOREIGN in codes
    repair_directory(checked.directory.path)
    assert (home / name).read_bytes() == data
    assert not checked.in_journal(name).exists()


class Homeless:
    """The last segment of a journal, with a waiting record, lies in the folder of another one, and
    its own is gone."""

    def __init__(self, checked: Checked, *, own_name: bool) -> None:
        other = Writer(checked.directory)
        consumer = Consumer(other.journal.directory)
        for step in range(60):
            consumer.take()
            other.save("four", b"%d" % step * 300)
        consumer.close()
        other.close()
        self.home = Path(other.journal.directory)
        self.elsewhere = checked.path("..", "elsewhere")
        segment = segment_files(os.fspath(self.home))[-1]
        self.name = segment.name
        name = self.name if own_name else segment_name(int(segment.stem) + 5)
        self.path = checked.in_journal(name)
        assert not self.path.exists()
        segment.rename(self.path)
        self.home.rename(self.elsewhere)


@pytest.mark.parametrize("first", [True, False])
def test_a_journal_whose_segment_comes_home_has_lost_nothing(
    checked: Checked, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """Whichever of the two journals comes first."""
    other = Writer(checked.directory)
    for _ in range(RECORDS):
        other.save("four", b"state" * 10)
    other.close()
    home = other.journal.directory
    segment = segment_files(home)[1]
    lying = checked.in_journal(segment_name(77))
    segment.rename(lying)
    paths = sorted(checked.directory.journal_paths(), key=lambda path: path != home)
    monkeypatch.setattr(StateDirectory, "journal_paths", lambda _: paths if first else paths[::-1])
    found = {finding.code for finding in check_directory(checked.directory.path).findings}
    assert found == {Code.SEGMENT_FOREIGN, Code.RECORD_MISSING}
    repaired = repair_directory(checked.directory.path)
    assert not repaired.lost
    assert not list(aside_paths(checked.directory.quarantine))
    assert segment.exists()
    assert not lying.exists()
    assert check_directory(checked.directory.path).ok


def test_a_segment_is_not_moved_to_a_journal_that_may_be_in_use(checked: Checked) -> None:
    homeless = Homeless(checked, own_name=True)
    homeless.elsewhere.rename(homeless.home)
    put_odd("directory", homeless.home / OWNER_LOCK)
    repaired = repair_directory(checked.directory.path)
    assert repaired.lost
    assert any("it cannot be known whether a process writes" in what for _, what in repaired.done)
    assert homeless.path.exists()


def test_a_renamed_segment_gets_its_name_back_whatever_the_cursor_says(checked: Checked) -> None:
    """The cursor has passed it, and others that wait, too."""
    first = segment_files(checked.journal)[0]
    for found in records(checked.journal):
        place = Path(checked.journal, segment_name(segment_of(found.position)))
        overwrite(place, offset_of(found.position) + OUTCOME_OFFSET, bytes(8))
    untrue_cursor(checked.journal, RECORDS)
    first.rename(checked.in_journal(segment_name(77)))
    repaired = repair_directory(checked.directory.path)
    assert not repaired.lost
    assert first.exists()
    assert waiting(checked) == set(range(1, RECORDS + 1))


@pytest.mark.parametrize("own_name", [True, False])
def test_waiting_records_without_a_home_stay_an_error(checked: Checked, own_name: bool) -> None:
    homeless = Homeless(checked, own_name=own_name)
    data = homeless.path.read_bytes()
    for _ in range(2):
        repaired = repair_directory(checked.directory.path)
        assert repaired.lost
        ((where, what),) = repaired.done
        assert where == f"{checked.where}/{homeless.path.name}"
        assert f"left as it is: 1 records of journal {homeless.home.name} wait in it" in what
        assert homeless.path.read_bytes() == data
        (found,) = check_directory(checked.directory.path).errors
        assert found.code is Code.SEGMENT_FOREIGN
        assert f"its place is journals/{homeless.home.name}/{homeless.name}" in found.what


@pytest.mark.parametrize("own_name", [True, False])
def test_a_foreign_segment_goes_home_under_its_own_name(checked: Checked, own_name: bool) -> None:
    homeless = Homeless(checked, own_name=own_name)
    homeless.elsewhere.rename(homeless.home)
    data = homeless.path.read_bytes()
    repair_directory(checked.directory.path)
    assert (homeless.home / homeless.name).read_bytes() == data
    assert not homeless.path.exists()
    assert check_directory(checked.directory.path).errors == []


@pytest.mark.parametrize("damaged", [True, False])
def test_a_copy_is_moved_if_its_records_are_at_home(checked: Checked, damaged: bool) -> None:
    homeless = Homeless(checked, own_name=True)
    homeless.elsewhere.rename(homeless.home)
    shutil.copy(homeless.path, homeless.home)
    if damaged:
        flip_in_record(os.fspath(homeless.home), records(os.fspath(homeless.home))[-1], 4)
    repair_directory(checked.directory.path)
    assert homeless.path.exists() == damaged
