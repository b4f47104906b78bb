"""Reads: the newest state from this process's journal, from another process's, from the store."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

from bench.figures import Figures, quantile
from bench.workload import Growth, Source, Workload
from livingai import CheckpointEngine, ExecutionNode, NodeType, Service, SQLiteStore, Status
from livingai.workers.store.reader import ReaderRole

_SMALL, _MEDIUM, _LARGE = 5_000, 100_000, 800_000
#: A state that is the last of many, each 2 KB longer than the one before.
_LATE: Final = "read-late"
_LATE_GROWTH: Final = Growth(300, 200_000, 800_000)


def measure_reads(source: Source, seed: int, directory: str | None, rounds: int) -> Figures:
    """Medians and p99 of ``rounds`` reads of each kind, in microseconds."""
    place = tempfile.mkdtemp(prefix="livingai-bench-", dir=directory)
    try:
        database = os.path.join(place, "bench.db")
        with Service(SQLiteStore(database)):
            return _measure(database, Workload(source, seed), rounds)
    finally:
        shutil.rmtree(place)


def _measure(database: str, workload: Workload, rounds: int) -> Figures:
    figures: Figures = {}
    with CheckpointEngine(SQLiteStore(database)) as engine:
        for size in (_SMALL, _MEDIUM, _LARGE):
            for state in workload.states(size, Growth(3, size - 2000, size)):
                node = ExecutionNode(f"read-{size}", NodeType.PROMPT, Status.SUCCESS)
                engine.save_sync(node, state).result()
        for state in workload.states(0, _LATE_GROWTH):
            engine.save_sync(ExecutionNode(_LATE, NodeType.PROMPT, Status.SUCCESS), state)
        engine.flush_sync()
        for size in (_SMALL, _MEDIUM):
            name, run = f"own process, {size // 1000} KB", f"read-{size}"
            figures |= _timed(name, rounds, partial(engine.latest_sync, run))
        figures |= asyncio.run(_awaited(engine, rounds))
        figures |= _elsewhere(database, rounds)
    return figures


async def _awaited(engine: CheckpointEngine, rounds: int) -> Figures:
    took = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        await engine.latest(f"read-{_SMALL}")
        took.append((time.perf_counter_ns() - began) / 1000)
    return _figures("own process, 5 KB, awaited", took)


def _elsewhere(database: str, rounds: int) -> Figures:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_reader, args=(database, rounds, theirs))
    process.start()
    theirs.close()
    figures: Figures = ours.recv()
    process.join()
    return figures


def _reader(database: str, rounds: int, pipe: Connection[Figures, None]) -> None:
    """Another process: through the cache, through the service, and straight from the file."""
    figures: Figures = {}
    medium, large = f"read-{_MEDIUM}", f"read-{_LARGE}"
    with CheckpointEngine(SQLiteStore(database)) as engine:
        figures |= _timed("other process, 100 KB", rounds, lambda: engine.latest_sync(medium))
        figures |= _timed("other process, 0.8 MB", rounds, lambda: engine.latest_sync(large))
    few = max(5, rounds // 10)
    # This cache takes no entry as new enough, so the service answers every read.
    with CheckpointEngine(SQLiteStore(database), cache_ttl_s=1e-9) as engine:
        engine.latest_sync(large)
        figures |= _timed("store by the service, 0.8 MB", few, lambda: engine.latest_sync(large))
    worker = ReaderRole(SQLiteStore(database))
    figures |= _timed("store, opened file, 0.8 MB", few, lambda: worker.do_latest(large))
    late = f"store, opened file, 0.8 MB behind {_LATE_GROWTH.steps} steps"
    figures |= _timed(late, few, lambda: worker.do_latest(_LATE))
    worker.close()
    pipe.send(figures)


def _timed(name: str, rounds: int, read: Callable[[], object]) -> Figures:
    took = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        read()
        took.append((time.perf_counter_ns() - began) / 1000)
    return _figures(name, took)


def _figures(name: str, took_us: list[float]) -> Figures:
    return {f"{name} p50_us": quantile(took_us, 0.5), f"{name} p99_us": quantile(took_us, 0.99)}
