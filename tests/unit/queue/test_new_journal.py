"""The files of a new journal: all of them, or nothing."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from livingai.errors import DiskFullError
from livingai.queue.journal import Journal
from tests.support.journals import LIMITS, state_directory


def descriptors() -> set[str]:
    """What this process has open, besides the folder that says so."""
    folder = "/proc/self/fd"
    found = [os.path.join(folder, name) for name in os.listdir(folder)]
    return {os.readlink(path) for path in found if os.path.lexists(path)}


@pytest.mark.parametrize(
    ("function", "call"),
    [("mkdir", 1), *(("posix_fallocate", n) for n in (1, 2, 3, 4)), ("rename", 1)],
)
def test_what_cannot_be_made_wholly_is_not_left(tmp_path: Path, function: str, call: int) -> None:
    """Neither on the disk, nor open; nor is its lock held."""
    root = state_directory(tmp_path / "state").journals
    before, real, calls = descriptors(), getattr(os, function), 0

    def fail(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, "no space")
        return real(*arguments)

    with mock.patch.object(os, function, fail), pytest.raises(DiskFullError):
        Journal(root, LIMITS)
    assert calls >= call
    assert os.listdir(root) == []
    assert not [path for path in descriptors() - before if path.startswith(root)]
    with closing(Journal(root, LIMITS)) as journal:
        assert os.listdir(root) == [f"{journal.id:016x}"]
