"""What the engines of a process share, and when it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from livingai.errors import DirectoryMismatchError, JournalClosedError


def engine(folder: Path, database: str = "agent.db") -> CheckpointEngine:
    return CheckpointEngine(
        SQLiteStore(folder / database), directory=str(folder / "state"), service="attach"
    )


def test_the_last_one_that_leaves_closes(tmp_path: Path) -> None:
    first, second = engine(tmp_path), engine(tmp_path)
    handle = first.open_handle()
    assert second.open_handle() is handle
    first.save_sync(ExecutionNode("run-1"), b"x")
    first.close_sync(timeout=0)
    first.close_sync(timeout=0)
    second.save_sync(ExecutionNode("run-1"), b"y")
    assert len(os.listdir(second.directory.journals)) == 1, "one journal for both"
    second.close_sync(timeout=0)
    assert handle.closed
    third = engine(tmp_path)
    assert third.open_handle() is not handle
    third.close_sync(timeout=0)


def test_one_that_was_refused_keeps_nothing_open(tmp_path: Path) -> None:
    first, other = engine(tmp_path), engine(tmp_path, "other.db")
    handle = first.open_handle()
    first.save_sync(ExecutionNode("run-1"), b"x")
    for _ in range(2):
        with pytest.raises(DirectoryMismatchError):
            other.open_handle()
    other.close_sync()
    first.save_sync(ExecutionNode("run-1"), b"y")
    first.close_sync(timeout=0)
    assert handle.closed


def test_one_that_has_left_does_not_come_back(tmp_path: Path) -> None:
    """Neither one that was used, nor one that never was."""
    used, unused = engine(tmp_path), engine(tmp_path)
    used.save_sync(ExecutionNode("run-1"), b"x")
    for left in (used, unused):
        left.close_sync(timeout=0)
        with pytest.raises(JournalClosedError):
            left.save_sync(ExecutionNode("run-1"), b"y")
        with pytest.raises(JournalClosedError):
            left.open_handle()
