"""Runs in the test's own process: one engine for a module, and a crash that leaves it alive.

A simulated crash is a BaseException: nothing of the program may catch it, and the recorder must not
record it. What a real crash does to a process is in ``tests/integration/runs/test_crash.py``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from livingai import CheckpointEngine, ExecutionNode, SQLiteStore
from tests.support.agents import engine_settings

_numbers = itertools.count()


class Crash(BaseException):
    """In place of the death of the process; a BaseException, so that no program catches it."""


def engine_in(folder: Path) -> Iterator[CheckpointEngine]:
    """An engine on a database of its own; for a fixture."""
    with CheckpointEngine(SQLiteStore(folder / "runs.db"), **engine_settings()) as engine:
        yield engine


def new_id() -> str:
    """An id that no execution has had before."""
    return f"run-{next(_numbers)}"


class Counter:
    """Functions of a program, and how often they were called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def add(self, *args: Any, **kwargs: Any) -> int:
        self.calls.append((args, kwargs))
        return len(self.calls)

    async def later(self, value: Any, ticks: int = 0) -> Any:
        for _ in range(ticks):
            await asyncio.sleep(0)
        self.calls.append(value)
        return value


def nodes_of(engine: CheckpointEngine, run_id: str, name: str) -> list[ExecutionNode]:
    return [n for n in engine.nodes_sync(run_id) if n.metadata.get("name") == name]
