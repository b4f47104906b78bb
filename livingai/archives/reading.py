"""Reading an export: its lines into a store, run by run.

Rules:

1. Each run is staged as a whole, then copied (:mod:`livingai.archives.staging`): what the target
   has is compared before anything of it is written, and read back afterwards. So an import may be
   killed at any moment and run again, and of a run with a damaged line nothing is written.
2. Memory is bounded by a line, and what a copy of one run takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import IO, Final

from livingai.archives.events import Event, RunBegins, RunEnds, RunLeftOut, events
from livingai.archives.lines import ExportedWrite
from livingai.archives.staging import Imported, Stage
from livingai.errors import ImportSourceError
from livingai.stores.base import Store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite.errors import check_place

#: What a line may have besides its state, and how much longer JSON may make that.
_LINE_BYTES: Final = 64 << 20
_LONGER: Final = 6


def import_runs(
    source: IO[bytes],
    target: Store | None,
    *,
    prefix: str = "",
    max_state_bytes: int,
    progress: Callable[[Imported], object] = lambda done: None,
) -> Imported:
    """Import an export into a store (:func:`open_target`); None: read everything, write nothing.
    ``prefix`` is put before the id of each run, whose nodes then get ids of their own, as those of
    a fork.

    Raises:
        ImportSourceError: it is no export, of a newer format, or damaged; the message names the
            line. The runs before that one are imported.
        StoreError, CorruptRecordError: as a copy.
    """
    done = Imported()
    with Stage(target, prefix, done) as stage:
        try:
            for number, event in events(source, max_state_bytes * _LONGER + _LINE_BYTES):
                _take(stage, event, number)
                progress(done)
        except ImportSourceError:
            stage.drop()
            stage.flush()
            raise
        stage.flush()
    return done


@contextmanager
def open_target(store: Store) -> Iterator[Store]:
    """The store open, for an import. An SQLite database that does not exist is made by the first
    run that goes into it, or at the end: not by an import that fails before.

    Raises:
        StoreError: as opening it.
    """
    if not isinstance(store, SQLiteStore) or os.path.lexists(store.path):
        with store:
            yield store
        return
    check_place(store.path)
    with closing(store):
        yield store
        store.open()


def _take(stage: Stage, event: Event, number: int) -> None:
    match event:
        case RunBegins(run):
            try:
                stage.begin(run)
            except ValueError as error:
                raise ImportSourceError(f"line {number}: {error}") from error
        case ExportedWrite():
            stage.add(event, number)
        case RunEnds():
            stage.end()
        case RunLeftOut(_, why):
            stage.leave_out(why)
