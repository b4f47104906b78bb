"""Owner's locks on files that are deleted or replaced just as they are locked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from livingai.queue.lock import OwnerLock, owner_alive


@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_is_deleted_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """The one before removes its journal, and perhaps another process has made one of that name by
    then: a lock on what has no name keeps nobody out."""
    path = tmp_path / "owner.lock"
    path.touch()
    real: Callable[[int, int], None] = fcntl.lockf

    def late(fd: int, how: int) -> None:
        path.rename(tmp_path / "gone")  # and not unlinked: the next file could have its number
        if again:
            path.touch()
        real(fd, how)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "lockf", late)
        assert OwnerLock.acquire(os.fspath(path)) is None
    assert not owner_alive(os.fspath(path))
    lock = OwnerLock.acquire(os.fspath(path))
    assert lock is not None
    assert owner_alive(os.fspath(path))
    lock.release()
    assert not owner_alive(os.fspath(path))
