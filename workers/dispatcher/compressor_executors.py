"""Executors for the compressors: processes, and the thread that does their work without them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.process import BaseProcess

from livingai.workers.compressor import start_compressor


def make_processes(count: int) -> ProcessPoolExecutor:
    """A pool of processes; they start with the first task.

    Raises:
        OSError, ImportError, NotImplementedError: there can be none: their queues need semaphores,
            and those need a /dev/shm that can be written to.
    """
    return ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_compressor,
        initargs=(os.getpid(),),
    )


def processes_of(executor: ProcessPoolExecutor | None) -> list[BaseProcess]:
    """Its processes; the executor offers no public way to them."""
    return list((getattr(executor, "_processes", None) or {}).values())


def end_processes(executor: ProcessPoolExecutor) -> None:
    """End an executor, whatever its thread is doing.

    A process that dies while it writes its answer leaves the executor's thread reading the rest
    for ever, because this process holds the other end of that pipe, too: so close it.
    """
    processes = processes_of(executor)
    results = getattr(executor, "_result_queue", None)  # shutdown() forgets both
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    if results is not None:
        results._writer.close()


def make_thread() -> ThreadPoolExecutor:
    """One thread: the mapped segments that it keeps are for one only."""
    return ThreadPoolExecutor(1, thread_name_prefix="compressor")
