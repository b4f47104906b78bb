"""The state directory: where journals, service socket and quarantine of one store live.

::

    <directory>/
      manifest.json      format version; the store's url (no credentials) and identity
      supervisor.lock    held by the supervisor while it runs
      successor.lock     held by a supervisor that is to take the place of an earlier one
      service.lock       held by the dispatcher while it runs
      service.sock       where agents reach it
      service.state      one shared page: is the dispatcher asleep, its pid (layout.ServiceWord)
      service.log        what the service has to say
      service.report     how the service is, or how it ended, for when it does not answer
      service.succession why it could not be replaced by one of a newer livingai
      service.tally      counters of all outcomes, and store.tally of all commits
      service.metrics    where metrics are served, while they are
      journals/<id>/     one journal per agent process: owner.lock control cursor index *.seg
      quarantine/        records that the store refuses for good

Made with mode 0700 and refused when it belongs to another user, or others can write to it: a user
with write access could forge an agent's records. Whether it belongs to a store is decided in
:mod:`livingai.stores.belonging`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from typing import Any, Final

from livingai.errors import (
    DirectoryError,
    DirectoryPermissionError,
    OddFileError,
)
from livingai.failpoint import failpoint
from livingai.places import real_path
from livingai.queue.layout import SERVICE_STATE_BYTES
from livingai.queue.manifest import change_manifest, make_manifest, read_manifest
from livingai.queue.opening import open_file
from livingai.queue.segment import journal_error, segment_numbers

_IS_ID = re.compile("[0-9a-f]{16}").fullmatch


def remove_journal(path: str) -> None:
    """Delete the folder of a journal whose lock the caller holds: first its name goes, then its
    files, so that no process opens half of one. What a crash leaves the next service removes."""
    doomed = os.path.join(os.path.dirname(path), f".gone-{os.path.basename(path)}")
    if os.path.lexists(doomed):  # something odd of that name: it is not ours to remove
        doomed += f"-{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, doomed)
        failpoint("retire.after_rename")
        shutil.rmtree(doomed)


def is_journal(path: str) -> bool:
    """Whether a folder may be a journal: it has the name of one, or something to be read as one."""
    if _IS_ID(os.path.basename(path)):
        return True
    return bool(segment_numbers(path)) and os.path.lexists(os.path.join(path, "control"))


class StateDirectory:
    """Paths of a state directory, and the checks before it is used."""

    __slots__ = (
        "_socket", "journals", "lock", "log", "path", "quarantine", "service_state",
        "successor_lock", "supervisor_lock",
    )  # fmt: skip

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = real_path(path)
        #: The folder that holds one folder per journal.
        self.journals: Final = os.path.join(self.path, "journals")
        #: The folder of records that were set aside.
        self.quarantine: Final = os.path.join(self.path, "quarantine")
        #: The dispatcher's lock file.
        self.lock: Final = os.path.join(self.path, "service.lock")
        #: The supervisor's lock file.
        self.supervisor_lock: Final = os.path.join(self.path, "supervisor.lock")
        #: The lock file of a supervisor that is to take the place of an earlier one.
        self.successor_lock: Final = os.path.join(self.path, "successor.lock")
        #: The dispatcher's shared page.
        self.service_state: Final = os.path.join(self.path, "service.state")
        #: The service's log file.
        self.log: Final = os.path.join(self.path, "service.log")
        self._socket: Final = os.path.join(self.path, "service.sock")

    def ensure(self, store_url: str) -> dict[str, Any]:
        """Make the directory for a store, or check that it is ours and of a known format (but not
        which store it belongs to); its manifest.

        Raises:
            DirectoryPermissionError: not writable, of another user, or others can write to it.
            FormatVersionError: a newer livingai wrote it.
            DirectoryError, DiskFullError: it cannot be made.
        """
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self.check_owner()
            for path in (self.journals, self.quarantine):
                os.makedirs(path, mode=0o700, exist_ok=True)
                self._check_mode(path)
            make_manifest(self.path, store_url)
            if _size(self.service_state) < SERVICE_STATE_BYTES:
                self._preallocate(self.service_state, SERVICE_STATE_BYTES)
        except PermissionError as error:
            if isinstance(error, DirectoryError):
                raise
            raise DirectoryPermissionError(
                f"the state directory {self.path} is not writable for this user; make it so or "
                "pass directory=... to CheckpointEngine"
            ) from error
        except (NotADirectoryError, FileExistsError) as error:
            raise DirectoryError(
                f"the state directory {self.path} cannot be made: a file is in the way "
                f"({error.filename or self.path}); move it away, or pass another directory=..."
            ) from error
        except OSError as error:
            if isinstance(error, DirectoryError):
                raise
            if error.errno == errno.EROFS:
                raise DirectoryPermissionError(
                    f"the state directory {self.path} is on a read-only file system; pass "
                    "directory=... to CheckpointEngine"
                ) from error
            raise journal_error(error, f"cannot make the state directory {self.path}") from error
        return self.manifest()

    def check_owner(self) -> None:
        """Raise DirectoryPermissionError unless the directory is this user's, writable, and not
        writable for others."""
        info = os.stat(self.path)
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(self.path)
        if info.st_uid != os.geteuid():
            raise DirectoryPermissionError(
                f"the state directory {self.path} belongs to user {info.st_uid}, this process runs "
                f"as {os.geteuid()}; pass directory=... to CheckpointEngine"
            )
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(self.path)
        self._check_mode(self.path)

    @staticmethod
    def _check_mode(path: str) -> None:
        """Raise unless ``path`` is a folder in which no other user may put files."""
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode) or not stat.S_ISDIR(info.st_mode):
            raise OddFileError(f"{path} is no folder; move it away, livingai makes a new one")
        if info.st_mode & 0o022:
            raise DirectoryPermissionError(
                f"other users can write to {path} (mode {stat.S_IMODE(info.st_mode):04o}), and so "
                f"could forge an agent's records; look through it, then run `chmod 700 {path}`, "
                "or pass directory=... to CheckpointEngine"
            )

    def manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            DirectoryError: there is none, or it cannot be read.
            FormatVersionError: a newer livingai wrote it.
        """
        return read_manifest(self.path)

    def change_manifest(
        self, changes: Mapping[str, str | None], *, over: Mapping[str, Any] | None = None
    ) -> bool:
        """Write other values into the manifest; None removes one. With ``over``, only if the
        manifest is still that one. Returns False if it is not.

        Raises:
            DirectoryError: it cannot be read, or another process does not let go of its lock.
            JournalError, DiskFullError: it cannot be written.
        """
        return change_manifest(self.path, changes, over)

    @staticmethod
    def _preallocate(path: str, size: int) -> None:
        fd = open_file(path, os.O_RDWR | os.O_CREAT)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)

    def journal_paths(self) -> list[str]:
        """Folders of all journals; one that is being made or removed is not among them."""
        try:
            with os.scandir(self.journals) as entries:
                found = [e for e in entries if e.name[0] != "." and e.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [e.path for e in found if is_journal(e.path)]

    @contextlib.contextmanager
    def socket_address(self) -> Iterator[str]:
        """An address for ``bind`` and ``connect``, valid inside the block.

        A Unix socket's path is limited to 107 bytes, a directory's is not, so a long one is
        reached through a descriptor of the directory.
        """
        path = self._socket
        if len(os.fsencode(path)) < 100:
            yield path
            return
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{fd}/service.sock"
        finally:
            os.close(fd)

    def connect(self, timeout_s: float) -> socket.socket:
        """A socket connected to the service. Raises OSError when none listens."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout_s)
            if os.path.islink(self._socket):
                raise OddFileError(f"{self._socket} is a symbolic link")
            with self.socket_address() as address:
                sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock


def _size(path: str) -> int:
    """Bytes of a file, 0 if it is not there (or was left empty by a crash)."""
    try:
        info = os.lstat(path)
        return info.st_size if stat.S_ISREG(info.st_mode) else 0
    except FileNotFoundError:
        return 0
