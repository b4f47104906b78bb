"""Setting records aside: no file is replaced, and none is written twice."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from livingai.queue.quarantine import aside_paths, lost_records, read_aside, set_aside
from tests.support.journals import failing
from tests.support.odd import put_odd

JOURNAL, POSITION = 7, 128


def aside(folder: Path, data: bytes, **about: object) -> str:
    return set_aside(os.fspath(folder), JOURNAL, POSITION, data, **about)


def test_a_place_that_is_noted_twice_has_two_files(tmp_path: Path) -> None:
    """A gap is noted at the next intact record, and that one may be in quarantine already."""
    refused = aside(tmp_path, b"record", reason="refused", lsn=5)
    gap = aside(tmp_path, b"", reason="records 3 to 4 are missing", lost=[3, 4])
    third = aside(tmp_path, b"", reason="record 2 is missing", lost=[2, 2])
    assert Path(refused).read_bytes().endswith(b"\nrecord")
    assert read_aside(gap).about["lost"] == [3, 4]
    assert read_aside(third).about["lost"] == [2, 2]
    assert set(aside_paths(os.fspath(tmp_path))) == {refused, gap, third}
    assert range(3, 5) in lost_records(os.fspath(tmp_path), JOURNAL)
    assert range(2, 3) in lost_records(os.fspath(tmp_path), JOURNAL)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{JOURNAL:016x}-{POSITION:016x}{number}.record" for number in ("", "-2", "-3")
    }


def test_what_another_journal_has_lost_does_not_count(tmp_path: Path) -> None:
    aside(tmp_path, b"", reason="records 3 to 4 are missing", lost=[3, 4])
    folder = os.fspath(tmp_path)
    set_aside(folder, JOURNAL + 1, POSITION, b"", reason="record 9 is missing", lost=[9, 9])
    assert lost_records(folder, JOURNAL) == [range(3, 5)]
    assert lost_records(folder, JOURNAL + 1) == [range(9, 10)]


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    """A service that was killed before the outcome was written sets the record aside again."""
    paths = [
        aside(tmp_path, data, reason=reason, **about)
        for reason in ("refused", "refused once more")
        for data, about in ((b"record", {"lsn": 5}), (b"", {"lost": (3, 4)}))
    ]
    assert paths[:2] == paths[2:]
    assert {os.fspath(path) for path in tmp_path.iterdir()} == set(paths)
    assert len(set(paths)) == 2
    assert read_aside(paths[0]).about["reason"] == "refused"


def test_other_bytes_of_the_same_record_have_a_file_of_their_own(tmp_path: Path) -> None:
    """It is set aside as it was in the journal where its state cannot be rebuilt, else whole."""
    paths = [aside(tmp_path, data, reason="refused", lsn=5) for data in (b"patch", b"whole")]
    written = [Path(path).read_bytes().partition(b"\n")[2] for path in paths]
    assert written == [b"patch", b"whole"]
    assert aside(tmp_path, b"whole", reason="refused", lsn=5) == paths[1]


@pytest.mark.parametrize("there", [b"", b"{}", b"7\nrecord", b"no json\nrecord"])
def test_a_damaged_file_is_left_as_it_is(tmp_path: Path, there: bytes) -> None:
    name = f"{JOURNAL:016x}-{POSITION:016x}.record"
    (tmp_path / name).write_bytes(there)
    path = aside(tmp_path, b"record", reason="refused")
    assert Path(path).read_bytes().endswith(b"\nrecord")
    assert (tmp_path / name).read_bytes() == there


def test_another_thing_of_that_name_is_left_as_it_is(tmp_path: Path) -> None:
    name = f"{JOURNAL:016x}-{POSITION:016x}.record"
    put_odd("directory", tmp_path / name)
    path = aside(tmp_path, b"record", reason="refused")
    assert Path(path).read_bytes().endswith(b"\nrecord")
    assert (tmp_path / name).is_dir()


def test_a_file_system_without_hard_links(tmp_path: Path) -> None:
    with failing("link", errno.EPERM):
        path = aside(tmp_path, b"record", reason="refused")
    with failing("link", errno.EIO), pytest.raises(OSError, match="output error"):
        aside(tmp_path, b"", reason="records 3 to 4 are missing", lost=[3, 4])
    assert Path(path).read_bytes().endswith(b"\nrecord")
    assert [os.fspath(each) for each in tmp_path.iterdir()] == [path]
