"""Runs of an export on their way into a store.

They are staged first, in a database of their own in the folder for temporary files, and copied from
there as ``livingai copy`` copies (:mod:`livingai.stores.copying`).
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from livingai import codecs
from livingai.archives.lines import ExportedWrite
from livingai.errors import CopyConflictError, ImportSourceError
from livingai.node import MAX_ID_BYTES, NodeField
from livingai.stores.base import Row, RowStatus, Store
from livingai.stores.comparing import conflict, is_complete, read_holding
from livingai.stores.copying import copy_execution
from livingai.stores.sqlite import SQLiteStore

#: Staged rows are committed together, and runs copied together, up to so many or so many bytes.
_BATCH_ROWS: Final = 200
_BATCH_BYTES: Final = 8 << 20
_STAGE_RUNS: Final = 500
_STAGE_BYTES: Final = 64 << 20
#: So many states in a row may be stored as differences from the one before.
_LONGEST_CHAIN: Final = 31


@dataclass(slots=True)
class Imported:
    """What an import brought: ``runs`` were added or completed, ``there`` were there already."""

    runs: int = 0
    there: int = 0
    nodes: int = 0
    states: int = 0
    #: Runs of the same id that are others in the target, and where they differ.
    refused: dict[str, str] = field(default_factory=dict)
    #: Runs that the export says it could not read, and why.
    left_out: dict[str, str] = field(default_factory=dict)


class Stage:
    """The runs that have been read and are not in the target yet."""

    def __init__(self, target: Store | None, prefix: str, done: Imported) -> None:
        self._target = target
        self._prefix = prefix
        self._done = done
        self._closing = ExitStack()
        self._numbers = 0
        self._store: SQLiteStore | None = None
        self._runs: list[str] = []
        self._bytes = 0
        self._run = ""
        #: With the numbers of their lines.
        self._rows: list[tuple[int, Row]] = []
        self._row_bytes = 0
        self._base: bytes | None = None
        self._chain = 0

    def __enter__(self) -> Self:
        self._folder = Path(
            self._closing.enter_context(tempfile.TemporaryDirectory(prefix="livingai-import-"))
        )
        return self

    def __exit__(self, *exc: object) -> None:
        if self._store is not None:
            self._store.close()
        self._closing.close()

    def begin(self, run: str) -> None:
        """What comes now is of this run."""
        name = f"{self._prefix}{run}"
        if len(name.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
            raise ValueError(f"the id {name!r:.200} is longer than {MAX_ID_BYTES} bytes")
        if run in self._runs:
            self.flush()
        self._run, self._base, self._chain = run, None, 0

    def add(self, write: ExportedWrite, number: int) -> None:
        """A write of the run, of the line of that number."""
        blob = base_hash = content = None
        raw_bytes = 0
        if write.state is not None:
            base = self._base if self._chain < _LONGEST_CHAIN else None
            encoded = codecs.encode(write.state, base=base)
            blob, base_hash, raw_bytes = encoded.blob, encoded.base_hash, len(write.state)
            content = codecs.content_hash(write.state)
            self._base = write.state
            self._chain = self._chain + 1 if base_hash is not None else 0
        row = Row(
            execution_id=self._run, node_id=str(write.wire[NodeField.ID]), claim=write.claim,
            epoch=write.epoch, seq=write.seq, wire=write.wire, blob=blob,
            state_kind=write.kind, raw_bytes=raw_bytes, saved_at=write.saved_at,
            base_hash=base_hash, content_hash=content,
        )  # fmt: skip
        self._rows.append((number, row))
        self._row_bytes += len(blob or b"")
        if len(self._rows) >= _BATCH_ROWS or self._row_bytes >= _BATCH_BYTES:
            self._commit()

    def end(self) -> None:
        """The run is complete."""
        self._done.left_out.pop(self._run, None)  # it was read at the second attempt
        self._runs.append(self._run)
        self._run = ""
        if len(self._runs) >= _STAGE_RUNS or self._bytes + self._row_bytes >= _STAGE_BYTES:
            self.flush()

    def leave_out(self, why: str) -> None:
        """The run was damaged as it was exported."""
        self._done.left_out[self._run] = why
        self.drop()

    def drop(self) -> None:
        """Forget what came of the run."""
        self._rows = [each for each in self._rows if each[1].execution_id != self._run]
        self._row_bytes = sum(len(row.blob or b"") for _, row in self._rows)
        if self._store is not None and self._run:
            self._store.forget(self._run)
        self._run = ""

    def _commit(self) -> None:
        """Stage the rows. If one makes no sense, its run and what comes behind it are forgotten."""
        if self._store is None:
            self._numbers += 1
            self._store = SQLiteStore(self._folder / f"{self._numbers}.db")
            self._store.open()
        self._bytes += self._row_bytes
        rows, self._rows, self._row_bytes = self._rows, [], 0
        results = self._store.commit([row for _, row in rows])
        for (number, row), result in zip(rows, results, strict=True):
            if result.status is not RowStatus.STORED:
                if row.execution_id in self._runs:
                    del self._runs[self._runs.index(row.execution_id) :]
                raise ImportSourceError(
                    f"line {number}: run {row.execution_id!r:.200}: its write "
                    f"{row.epoch}.{row.seq} makes no sense: "
                    f"{result.status.name.lower()} {result.reason}"
                )

    def flush(self) -> None:
        """Copy the complete runs into the target.

        Raises:
            ImportSourceError: a write made no sense; the complete runs before it were copied.
        """
        try:
            if self._rows:
                self._commit()
        except ImportSourceError:
            self._bring_all()
            raise
        self._bring_all()

    def _bring_all(self) -> None:
        for run in self._runs:
            assert self._store is not None
            self._bring(self._store, run)
        if self._store is not None:
            self._store.close()
            path = Path(self._store.path)
            for each in self._folder.glob(f"{path.name}*"):
                each.unlink()
        self._store, self._runs, self._bytes = None, [], 0

    def _bring(self, staged: Store, run: str) -> None:
        done, target = self._done, self._target
        name = f"{self._prefix}{run}"
        here = read_holding(staged, run)
        if target is not None and not self._prefix:
            there = read_holding(target, run)
            known = bool(there.owners or there.nodes)
            if known and conflict(here, there) is None and is_complete(here, there):
                done.there += 1
                return
        try:
            if target is not None:
                copy_execution(staged, target, run, name if self._prefix else None)
        except CopyConflictError as error:
            done.refused[name] = str(error)
            return
        done.runs += 1
        done.nodes += len(here.nodes)
        done.states += len(here.states)
