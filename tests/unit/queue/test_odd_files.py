"""What is in the place of a file of a state directory is opened only if it is a regular file."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from livingai.errors import OddFileError
from livingai.queue.opening import open_binary, open_file, parse_json, read_json
from tests.support.odd import ODD, put_odd

_FLAGS = {
    "read": os.O_RDONLY,
    "write": os.O_WRONLY,
    "both": os.O_RDWR,
    "made if missing": os.O_RDWR | os.O_CREAT,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("flags", _FLAGS.values(), ids=_FLAGS)
@pytest.mark.parametrize("kind", ODD)
def test_only_files_are_opened(tmp_path: Path, kind: str, flags: int) -> None:
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / "name"
    put_odd(kind, path)
    before = os.lstat(path)
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OddFileError, match="move it away") as raised:
        open_file(str(path), flags)
    assert str(path) in str(raised.value)
    assert isinstance(raised.value, OSError)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    assert os.lstat(path).st_ino == before.st_ino
    assert not (tmp_path / "inside" / "nowhere").exists()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


def test_what_is_not_there_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_file(str(tmp_path / "name"), os.O_RDONLY)


_OF_OTHERS = """
import os, sys
from livingai.errors import OddFileError
from livingai.queue.opening import open_file
os.setuid(65534)
for path in sys.argv[1:]:
    try:
        open_file(path, os.O_RDONLY)
    except OddFileError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_files_of_others_and_files_that_may_not_be_read(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o777)
    for folder in tmp_path.parents:
        if not folder.stat().st_mode & 0o001:
            os.chmod(folder, folder.stat().st_mode | 0o011)
    inside = tmp_path / "inside"
    inside.mkdir()
    os.chown(inside, 65534, 65534)
    theirs, closed = inside / "theirs", inside / "closed"
    theirs.write_bytes(b"")
    os.chmod(theirs, 0o644)
    closed.write_bytes(b"")
    os.chown(closed, 65534, 65534)
    os.chmod(closed, 0)
    code = [sys.executable, "-c", _OF_OTHERS, str(theirs), str(closed)]
    said = subprocess.run(code, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "a file of user 0," in said[0]
    assert "a file of mode 0000," in said[1]
    with open_binary(str(closed)) as file:  # root may look into a folder of theirs
        assert file.read() == b""


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 60_000, "{" * 3, "x" * 70_000, "\xff", '{"a": ' * 20_000]
)
def test_hostile_json_is_a_value_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r".+"):
        read_json(str(path))


def test_json(tmp_path: Path) -> None:
    assert parse_json(b'{"pid": 1}') == {"pid": 1}
    with pytest.raises(ValueError, match="longer than 3 bytes"):
        parse_json(b"12345", 3)
