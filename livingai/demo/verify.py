"""Reading the states back in new processes: through an engine, and from the database alone."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final

from livingai.demo.agent import digest
from livingai.demo.crew import Broken
from livingai.demo.interrupts import interrupts_held
from livingai.engine.engine import CheckpointEngine
from livingai.errors import LivingAIError
from livingai.protocol.sections import decode_state
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.store.reader import ReaderRole

_ANSWER_S: Final = 60.0

Digests = dict[str, str]  # execution id: digest of its newest state


def by_latest(database: str, executions: list[str]) -> Digests:
    """Read with ``latest`` as any agent does: from the hot cache or the store."""
    with CheckpointEngine(SQLiteStore(database)) as engine:
        return {name: digest(engine.latest_sync(name)[1]) for name in executions}


def from_database(database: str, executions: list[str]) -> Digests:
    """Read the SQLite file directly, without journals, cache and service."""
    worker = ReaderRole(SQLiteStore(database))
    found = {}
    for name in executions:
        _, kind, raw = worker.do_latest(name)
        found[name] = digest(decode_state(kind, raw))
    worker.close()
    return found


def _child(
    read: Callable[[str, list[str]], Digests],
    database: str,
    executions: list[str],
    pipe: Connection[Digests | str, None],
) -> None:
    try:
        pipe.send(read(database, executions))
    except LivingAIError as error:
        pipe.send(f"{type(error).__name__}: {error}")


def in_new_process(
    read: Callable[[str, list[str]], Digests], database: str, executions: list[str]
) -> Digests:
    """Read in a new process, which shares no memory with this one.

    Raises:
        Broken: it cannot read them, or takes more than 60 seconds.
    """
    context = multiprocessing.get_context("spawn")
    with interrupts_held():
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_child, args=(read, database, executions, theirs), daemon=True
        )
        process.start()
        theirs.close()
    try:
        answer: Digests | str = ours.recv() if ours.poll(_ANSWER_S) else "it took too long"
    except EOFError:
        answer = "the process ended without an answer"
    finally:
        process.kill()
        process.join()
    if isinstance(answer, str):
        raise Broken(f"reading the states back failed: {answer}")
    return answer
