"""The manifest of a state directory: the JSON object that says its format and whose it is.

Rules:

1. It is written under another name, synced and renamed, and then the folder is synced. A reader
   needs no lock and never sees half of one; what was changed survives power loss.
2. One process at a time changes it, under a lock (flock) of the state directory's folder. Inside
   the lock it reads and writes files of the folder and does nothing else: if it waited for a
   database in there, it would hold up all others.
3. The lock's holder may be stopped or wait for its disk. Others give up after a time, with an error
   that says so.
4. What a change is based on was found out before the lock was taken. A change that would be wrong
   on top of another one names the manifest that it is based on (``over``), and is not made if the
   manifest is another one by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from livingai.errors import DirectoryError, FormatVersionError, LivingAIError, OddFileError
from livingai.queue.layout import FORMAT_VERSION
from livingai.queue.opening import read_json, sync_path
from livingai.queue.segment import journal_error

MANIFEST: Final = "manifest.json"
#: Seconds that a process waits for the lock.
_PATIENCE_S: Final = 30.0
#: Seconds between two attempts to get it.
_RETRY_S: Final = 0.01


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a state directory.

    Raises:
        DirectoryError: there is none, or it cannot be read.
        FormatVersionError: a newer livingai wrote it.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        manifest = read_json(path)
        version = int(manifest["format"])
    except FileNotFoundError as error:
        raise DirectoryError(
            f"{folder} is not a livingai state directory (no {MANIFEST})"
        ) from error
    except OddFileError:
        raise
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DirectoryError(
            f"{path} cannot be read ({error}); restore it, or remove the "
            "directory if its journals are empty (`livingai check` says)"
        ) from error
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{folder} has format {version}, this livingai knows up to {FORMAT_VERSION}; "
            "upgrade livingai to use it"
        )
    return dict(manifest)


def make_manifest(folder: str, store_url: str) -> None:
    """Make the first manifest; one that is there stays.

    Raises:
        OSError: it cannot be written.
    """
    if not os.path.lexists(os.path.join(folder, MANIFEST)):
        first = {"format": FORMAT_VERSION, "store": store_url, "directory": folder}
        _write(folder, first, os.link)


def change_manifest(
    folder: str, changes: Mapping[str, str | None], over: Mapping[str, Any] | None = None
) -> bool:
    """Write other values into the manifest; None removes one. With ``over``, only if the manifest
    is still that one. Returns False if it is not.

    Raises:
        DirectoryError: it cannot be read, or another process does not let go of the lock.
        JournalError, DiskFullError: it cannot be written.
    """
    try:
        with manifest_lock(folder):
            manifest = read_manifest(folder)
            if over is not None and manifest != over:
                return False
            changed = {k: v for k, v in {**manifest, **changes}.items() if v is not None}
            if changed != manifest:
                _write(folder, changed, os.replace)
            return True
    except LivingAIError:  # some are an OSError, too
        raise
    except OSError as error:
        raise journal_error(error, f"cannot write {os.path.join(folder, MANIFEST)}") from error


@contextlib.contextmanager
def manifest_lock(folder: str, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Wait until no other process is inside such a block on this folder; keep others out.

    Raises:
        DirectoryError: another process has held the lock for ``patience_s`` seconds.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _take(fd, folder, patience_s)
        try:
            yield
        finally:
            # A child that was forked meanwhile has the descriptor too: closing ours is not enough.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _take(fd: int, folder: str, patience_s: float) -> None:
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > give_up_at:
                raise DirectoryError(
                    f"another process has held the lock on {folder} for {patience_s:g} s, so "
                    f"its {MANIFEST} cannot be changed; that process is stopped or waits for "
                    "its disk: find it with `lslocks`, let it go on or end it, and try again"
                ) from error
            time.sleep(_RETRY_S)
        else:
            return


def _write(folder: str, manifest: dict[str, Any], publish: Callable[[str, str], None]) -> None:
    """``publish`` gives the written file its name."""
    fd, temporary = tempfile.mkstemp(prefix=".manifest-", dir=folder)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            publish(temporary, os.path.join(folder, MANIFEST))
        sync_path(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
