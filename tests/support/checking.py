"""What ``livingai check`` says of the state directories that a test has left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from livingai.errors import DirectoryError, LivingAIError, StoreMismatchError
from livingai.inspection.check import check_directory
from livingai.inspection.findings import Code, Severity
from livingai.queue.directory import StateDirectory
from livingai.queue.manifest import MANIFEST
from livingai.stores.base import Store
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.whereabouts import store_url_here

#: Instead of a finding's code: a directory, or its database, that cannot be looked at.
UNREADABLE = "unreadable"


def directories(folder: Path) -> Iterator[str]:
    """The state directories below a folder."""
    for at, names, files in os.walk(folder):
        if MANIFEST in files and "journals" in names:
            names.clear()
            yield at


def found(path: str) -> list[tuple[str, str]]:
    """Code and words of each error of a state directory, and of its database if that is a file."""
    try:
        report = check_directory(path, _store_of(path))
    except StoreMismatchError:  # the database was moved or replaced
        report = check_directory(path)
    except LivingAIError as error:
        return [(UNREADABLE, f"{path}: {type(error).__name__}: {error}")]
    errors = [finding for finding in report.findings if finding.severity is Severity.ERROR]
    return [(str(finding.code), f"{path}: {finding}") for finding in errors]


def _store_of(path: str) -> Store | None:
    try:
        store = open_store(store_url_here(StateDirectory(path)))
    except (LivingAIError, ImportError) as error:
        if isinstance(error, DirectoryError):
            raise
        return None
    there = isinstance(store, SQLiteStore) and os.path.isfile(store.path)
    return store if there and os.path.getsize(store.place or "") else None


def judge(folder: Path, expected: set[str]) -> None:
    """AssertionError unless what is found below a folder is what is expected."""
    assert expected <= {*Code, UNREADABLE}, f"no finding has such a code: {expected}"
    errors = [each for path in directories(folder) for each in found(path)]
    wrong = [what for code, what in errors if code not in expected]
    assert not wrong, "`livingai check` finds damage:\n" + "\n".join(wrong)
    missing = expected - {code for code, _ in errors}
    assert not missing, f"not found, though it was marked as damaged: {missing}"
