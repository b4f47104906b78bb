"""One side of a case: a process of its own, which takes steps when it is told to."""

from __future__ import annotations

import asyncio
import importlib
import logging
import multiprocessing
import os
import sqlite3
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from bench.cpu import cpu_seconds
from bench.frameworks.cases import OURS, Case, Opener, Place
from bench.processes import roles_of
from livingai import CheckpointEngine, Service, SQLiteStore
from livingai.workers.process import die_with_parent

#: The role of the process that takes the steps.
PROGRAM: Final = "program"
#: Seconds after which a process that says nothing is given up.
_PATIENCE_S: Final = 900.0


class SideError(Exception):
    """A side has failed; the message has its traceback."""


class Side:
    """Runs one side of a case in an empty folder; the service of livingai's side runs beside it.

    Raises:
        SideError: it could not begin.
    """

    def __init__(self, case: Case, name: str, folder: Path) -> None:
        self.name = name
        self._data = folder / "data"
        self._data.mkdir(parents=True)
        self._service: Service | None = None
        if name == OURS:
            self._service = Service(
                SQLiteStore(self._data / "store.db"), str(folder / "state")
            ).start()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_main, args=(theirs, os.getpid(), case, name, folder)
        )
        self._process.start()
        theirs.close()
        self._cpu_s: dict[str, dict[int, float]] = {}
        try:
            self._hear()
        except SideError:
            self.close()
            raise

    def take(self, first: int, count: int) -> list[int]:
        """Take the next steps; how long each held its caller, in ns.

        Raises:
            SideError: one failed.
        """
        self._pipe.send((first, count))
        held: list[int] = self._hear()
        return held

    def begin(self) -> None:
        """From here on CPU time counts."""
        self._cpu_s = self._cpu_now()

    def end(self) -> tuple[dict[str, float], int]:
        """Wait until everything is stored; the CPU seconds that the processes took since
        :meth:`begin`, by role, and the bytes that are stored."""
        self._pipe.send(None)
        self._hear()
        now = self._cpu_now()
        cpu_s = dict.fromkeys((PROGRAM, *now), 0.0)
        for role, seconds in now.items():
            cpu_s[role] = sum(
                spent - self._cpu_s.get(role, {}).get(pid, 0.0) for pid, spent in seconds.items()
            )
        self._pipe.send(None)
        self._process.join(_PATIENCE_S)
        if self._service is not None:
            self._service.stop(timeout=_PATIENCE_S)
            self._service = None
        for path in self._data.rglob("*.db"):
            _empty_log(path)
        return cpu_s, sum(path.stat().st_size for path in self._data.rglob("*") if path.is_file())

    def close(self) -> None:
        """End what is left of it."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        if self._service is not None:
            self._service.stop(timeout=_PATIENCE_S)

    def _cpu_now(self) -> dict[str, dict[int, float]]:
        """CPU seconds of each process, by role and process id."""
        roles = {PROGRAM: [self._process.pid or 0]}
        if self._service is not None:
            roles |= roles_of(self._service)
        return {role: {pid: cpu_seconds(pid) for pid in pids} for role, pids in roles.items()}

    def _hear(self) -> Any:
        if not self._pipe.poll(_PATIENCE_S):
            raise SideError(f"{self.name} says nothing")
        try:
            answer = self._pipe.recv()
        except EOFError as error:
            raise SideError(f"{self.name} has ended") from error
        if isinstance(answer, str):
            raise SideError(f"{self.name} failed:\n{answer}")
        return answer


def _empty_log(database: Path) -> None:
    """Bring what is left in an SQLite database's log into the database: whether there is some
    depends on which process has closed it last."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _main(pipe: Connection, parent: int, case: Case, name: str, folder: Path) -> None:
    """The process of a side."""
    die_with_parent(parent)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        asyncio.run(_serve(pipe, case, name, folder))
    except Exception:
        pipe.send(traceback.format_exc())


async def _serve(pipe: Connection, case: Case, name: str, folder: Path) -> None:
    module = importlib.import_module(f"bench.frameworks.{case.framework}")
    opener: Opener = module.OPENERS[case.name, name]
    engine = None
    if name == OURS:
        store = SQLiteStore(folder / "data" / "store.db")
        engine = CheckpointEngine(store, directory=str(folder / "state"))
    async with opener(Place(folder / "data", engine, case.steps)) as step:
        if engine is not None:
            await engine.drain()  # what the opener has prepared
        pipe.send(True)
        while (asked := pipe.recv()) is not None:
            pipe.send(await _steps(step, range(asked[0], sum(asked))))
    if engine is not None:
        await engine.drain()
        await engine.close()
    pipe.send(True)
    pipe.recv()  # until its CPU time was read


async def _steps(step: Any, numbers: Sequence[int]) -> list[int]:
    held = []
    for number in numbers:
        began_ns = time.perf_counter_ns()
        await step(number)
        held.append(time.perf_counter_ns() - began_ns)
    return held
