"""Owner's locks: on files that are deleted or replaced just as they are locked, and in a child."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from livingai.queue.lock import OwnerLock, owner_alive, owner_pid
from tests.support.patience import patience


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


def test_a_forked_child_is_not_the_owner(tmp_path: Path) -> None:
    """It sees its parent's lock as others do, and can have it once the parent has let go."""
    path = os.fspath(tmp_path / "owner.lock")
    lock = OwnerLock.acquire(path)
    assert lock is not None
    (seen, see), (gone, go) = os.pipe(), os.pipe()
    alarm = int(patience(30))
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the parent's goes on
        signal.alarm(alarm)  # it must not wait for ever
        failed = 1
        with contextlib.suppress(BaseException):
            parents = owner_pid(path) == os.getppid() and OwnerLock.acquire(path) is None
            os.write(see, b"x")
            os.close(go)
            os.read(gone, 1)  # until the parent has closed the other end
            after = owner_pid(path) is None and OwnerLock.acquire(path) is not None
            failed = not (parents and after and owner_pid(path) == os.getpid())
        os._exit(failed)
    os.close(see)
    os.close(gone)
    try:
        looked = os.read(seen, 1)  # nothing, if it has died
        lock.release()
    finally:
        os.close(go)
        os.close(seen)
        _, status = os.waitpid(child, 0)
    assert (looked, status) == (b"x", 0)
