"""Things that should not be where a file of a state directory is expected."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path


def _socket(path: str) -> None:
    sock = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # its path may be longer than a socket's address
    try:
        sock.bind(os.path.basename(path))
    finally:
        os.chdir(here)
        sock.close()


def _deep(path: str) -> None:
    os.makedirs(os.path.join(path, *"abcdefghij", "control"))


def _link_to_file(path: str) -> None:
    target = Path(path).parent.parent / f"elsewhere-{os.path.basename(path)}"
    target.write_bytes(b"not ours to touch")
    os.symlink(target, path)


#: Makes something odd at a path where nothing is.
ODD: dict[str, Callable[[str], None]] = {
    "directory": os.mkdir,
    "deep folder": _deep,
    "fifo": os.mkfifo,
    "socket": _socket,
    "dangling link": lambda path: os.symlink("nowhere", path),
    "looping link": lambda path: os.symlink(os.path.basename(path), path),
    "link to a file": _link_to_file,
    "link to a folder": lambda path: os.symlink("/", path),
}
if os.geteuid() == 0:
    ODD["device"] = lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


def put_odd(kind: str, path: str | os.PathLike[str]) -> None:
    """Put something odd in the place of whatever is there."""
    path = os.fspath(path)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    ODD[kind](path)
