"""What a disk may hold after a power loss: a recorder of what real code does to a folder, and the
states that its syncs leave possible.

The recorder looks at the folder after each call that changes or syncs it. A file has the contents
that it had at its last sync, and those since; after a power loss each sector of 512 bytes holds any
of them: that is a write dropped, kept, reordered or torn. A name that was given or taken away since
the last sync of its folder is there or not, each for itself; a rename is done wholly or not at all.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from unittest import mock

SECTOR = 512
#: Names that one call has changed in a folder: the name, what it led to, what it leads to.
Change = list[tuple[str, int, int]]
_CALLS = (
    "fdatasync", "fsync", "ftruncate", "link", "mkdir", "posix_fallocate", "pwrite", "pwritev",
    "rename", "replace", "rmdir", "unlink",
)  # fmt: skip
#: More choices than this are not enumerated.
_MOST = 256


@dataclass(slots=True)
class DiskFile:
    """A file: the contents that its sectors may have, the one of the last sync first."""

    contents: list[bytes] = field(default_factory=lambda: [b""])


@dataclass(slots=True)
class DiskFolder:
    """A folder: its names at its last sync, and the changes since."""

    names: dict[str, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def after(self, kept: tuple[bool, ...]) -> dict[str, int]:
        """The names, if these changes have reached the disk and the others have not."""
        names = dict(self.names)
        for keep, change in zip(kept, self.changes, strict=True):
            if keep and all(names.get(name, 0) == old for name, old, _ in change):
                for name, _, new in change:
                    names.pop(name, None)
                    if new:
                        names[name] = new
        return names


#: What the disk may hold: all files and folders by number, and the number of the top folder.
Disk = tuple[dict[int, DiskFile], dict[int, DiskFolder], int]


class PowerRecorder:
    """Records what this process does to a folder inside :meth:`recording`."""

    def __init__(self, top: Path, at_event: Callable[[Disk], None]) -> None:
        """``at_event`` is called after each call with what a power loss could leave then."""
        self._top = os.fspath(top)
        self._at_event = at_event
        self._files: dict[int, DiskFile] = {}
        self._folders: dict[int, DiskFolder] = {}
        #: A descriptor of each, so that no number is used twice. (Of a lock file none: closing it
        #: would release the lock.)
        self._held: dict[int, int] = {}
        self._now: dict[int, dict[str, int]] = {}
        self._looking = False
        self._root = os.stat(top).st_ino
        self._look()
        for file in self._files.values():
            del file.contents[:-1]
        for folder in self._folders.values():
            folder.names = folder.after((True,) * len(folder.changes))
            folder.changes.clear()

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record all calls in the block."""
        with contextlib.ExitStack() as stack:
            for name in _CALLS:
                stack.enter_context(mock.patch.object(os, name, self._watched(name)))
            yield

    def _watched(self, name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            result = real(*arguments, **named)
            synced: tuple[int, ...] = ()
            if name in ("fsync", "fdatasync") and isinstance(arguments[0], int):
                synced = (os.fstat(arguments[0]).st_ino,)
            self.event(*synced)
            return result

        return call

    def event(self, *synced: int) -> None:
        """Something was done to the folder; these files and folders (by number) were synced."""
        if self._looking:  # what the look itself does is not recorded
            return
        self._looking = True
        self._look()
        for number in synced:
            self._synced(number)
        self._at_event((self._files, self._folders, self._root))
        self._looking = False

    def _synced(self, number: int) -> None:
        if number in self._files:
            del self._files[number].contents[:-1]
        if number in self._folders:
            folder = self._folders[number]
            folder.names = folder.after((True,) * len(folder.changes))
            folder.changes.clear()

    def _look(self) -> None:
        """Note what is other than at the last look."""
        now: dict[int, dict[str, int]] = {}
        self._walk(self._top, self._root, now)
        for number, names in now.items():
            before = self._now.get(number, {})
            change = [
                (name, before.get(name, 0), names.get(name, 0))
                for name in sorted(before.keys() | names.keys())
                if before.get(name, 0) != names.get(name, 0)
            ]
            if change:
                self._folders[number].changes.append(change)
        self._now = now
        for number, file in self._files.items():
            if number in self._held:
                content = os.pread(self._held[number], 1 << 24, 0)
                if content != file.contents[-1]:
                    file.contents.append(content)

    def _walk(self, path: str, number: int, now: dict[int, dict[str, int]]) -> None:
        self._folders.setdefault(number, DiskFolder())
        names = now[number] = {}
        for entry in os.scandir(path):
            inode = names[entry.name] = entry.inode()
            is_folder = stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode)
            if inode not in self._held and not entry.name.endswith(".lock"):
                self._held[inode] = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            if is_folder:
                self._walk(entry.path, inode, now)
            else:
                self._files.setdefault(inode, DiskFile())

    def close(self) -> None:
        """Let go of all files."""
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()


def every_state(disk: Disk, target: Path) -> Iterator[Path]:
    """Each state with whole files: every change of a name made or not, every file as at its last
    sync or as it is now. Nothing, if those are too many."""
    files, folders, _ = disk
    dirty = [number for number, file in files.items() if len(file.contents) > 1]
    changed = [(n, i) for n, folder in folders.items() for i in range(len(folder.changes))]
    if 2 ** (len(dirty) + len(changed)) > _MOST:
        return
    for choice in product((False, True), repeat=len(dirty) + len(changed)):
        new = dict(zip(dirty, choice, strict=False))
        kept = dict(zip(changed, choice[len(dirty) :], strict=True))
        contents = {n: file.contents[-new.get(n, False)] for n, file in files.items()}
        names = {
            n: folder.after(tuple(kept[n, i] for i in range(len(folder.changes))))
            for n, folder in folders.items()
        }
        yield _build(contents, names, disk[2], target)


def any_state(disk: Disk, chance: random.Random, target: Path) -> Path:
    """A state that is drawn: sectors, or pages of 4 KB, each with any of their contents."""
    files, folders, root = disk
    part = chance.choice([1.0, 0.0, 0.5, 0.9, 0.1])
    block = chance.choice([SECTOR, 8 * SECTOR])
    contents = {}
    for number, file in files.items():
        sizes = [len(content) for content in file.contents]
        size = sizes[-1] if chance.random() < part else chance.choice(sizes)
        blocks = []
        for at in range(0, size, block):
            last = chance.random() < part
            content = file.contents[-1] if last else chance.choice(file.contents)
            blocks.append(content[at : at + block].ljust(min(block, size - at), b"\0"))
        contents[number] = b"".join(blocks)
    part = chance.choice([1.0, 0.0, 0.5])
    names = {
        number: folder.after(tuple(chance.random() < part for _ in folder.changes))
        for number, folder in folders.items()
    }
    return _build(contents, names, root, target)


def _build(
    contents: dict[int, bytes], names: dict[int, dict[str, int]], folder: int, target: Path
) -> Path:
    """Make the folder as the disk has it."""
    target.mkdir(mode=0o700, parents=True)
    for name, number in names[folder].items():
        if number in names:
            _build(contents, names, number, target / name)
        else:
            path = target / name
            path.write_bytes(contents[number])
            path.chmod(0o600)
    return target
