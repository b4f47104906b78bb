"""Files that are there whole or not at all, also after a power loss: the bytes are safe before they
get their name, and the name is before anybody relies on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from livingai.queue.manifest import change_manifest, make_manifest
from livingai.queue.quarantine import set_aside
from tests.support.journals import failing


def aside(folder: str) -> None:
    set_aside(folder, 7, 128, b"record", reason="refused")


def aside_without_links(folder: str) -> None:
    with failing("link", errno.EPERM):
        aside(folder)


def first_manifest(folder: str) -> None:
    make_manifest(folder, "sqlite:///a.db")


def other_manifest(folder: str) -> None:
    assert change_manifest(folder, {"store": "sqlite:///b.db"})


@pytest.mark.parametrize(
    ("before", "write"),
    [
        (None, aside), (None, aside_without_links), (None, first_manifest),
        (first_manifest, other_manifest),
    ],
)  # fmt: skip
def test_bytes_then_name_then_folder(
    tmp_path: Path, before: Callable[[str], None] | None, write: Callable[[str], None]
) -> None:
    folder = os.fspath(tmp_path)
    if before is not None:
        before(folder)
    was, real = seen(folder), os.fsync
    synced: list[tuple[bytes | None, set[bytes]]] = []

    def fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        synced.append((None if path.is_dir() else path.read_bytes(), seen(folder)))
        real(fd)

    with mock.patch.object(os, "fsync", fsync):
        write(folder)
    (new,) = seen(folder) - was
    assert synced == [(new, was), (None, seen(folder))]


def seen(folder: str) -> set[bytes]:
    """What is in the files that have a name of their own."""
    return {path.read_bytes() for path in Path(folder).iterdir() if path.name[0] != "."}
