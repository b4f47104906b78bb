"""A control group with a limit of memory, in which the kernel kills what needs more."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.waiting import until


class MemoryGroup:
    """A group; version 1 or 2 of the kernel's interface, whichever can be used here."""

    def __init__(self, folder: Path, limit: str, events: str) -> None:
        self.folder = folder
        self._limit = folder / limit
        self._events = folder / events

    def limit(self, limit_bytes: int) -> None:
        """What all of its processes together may have."""
        self._limit.write_text(str(limit_bytes))

    def add(self, pid: int) -> None:
        """Move a process there; what it has so far is not counted."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def killed(self) -> int:
        """How many processes were killed there for want of memory."""
        lines = (line.split() for line in self._events.read_text().splitlines())
        return sum(int(line[1]) for line in lines if line[0] == "oom_kill")

    def close(self) -> None:
        """Remove it once it is empty."""

        def removed() -> bool:
            with suppress(OSError):
                self.folder.rmdir()
            return not self.folder.exists()

        until(removed, what="an empty control group")


#: Where groups are, the name of the limit's file, and that of the file that counts kills.
_VERSIONS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
)


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A new group. Skips the test where the system does not let us make one."""
    group = next(filter(None, map(_made, *zip(*_VERSIONS, strict=True))), None)
    if group is None:
        pytest.skip("no control group with a memory limit can be made here")
    try:
        yield group
    finally:
        group.close()


def _made(root: Path, limit: str, events: str) -> MemoryGroup | None:
    folder = root / f"livingai-test-{os.getpid()}-{secrets.token_hex(4)}"
    with suppress(OSError):
        folder.mkdir()
        if (folder / limit).exists() and (folder / events).exists():
            return MemoryGroup(folder, limit, events)
        folder.rmdir()
    return None
