"""A database of livingai 0.4.1: its ``SQLiteStore``.

Each save is a row of the table ``nodes``: ``seq`` (in order of the saves), ``id`` and
``execution_id`` of the node, ``data`` (the node as JSON) and ``checkpoint`` (a state, or NULL). A
checkpoint's first byte says how the rest is encoded: 0x00 not at all, 0x01 with zlib.

Rules:

1. Every row is saved, in order: the history of an execution comes along. So whenever an import is
   killed, the store has the first rows of an execution, and none behind a gap.
2. The next import finds how many these are: the longest beginning of the rows that leaves the nodes
   and states which the store has. It goes on behind them.
3. Where no beginning does, but all that the rows leave is there, a program has gone on with the
   execution in the store, and nothing is added. Anything else is another execution of that id: an
   ImportMismatchError, and nothing is written to it.
4. At the end nodes and states are read back and compared.
5. The source is read in pages, each in a transaction of its own: a program of 0.4 that still writes
   to it drops what waits for a reader longer than its budget. Rows are never changed there, and
   those that come after the import has begun are left to the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple

import xxhash

from livingai.config import DEFAULT_MAX_STATE_BYTES
from livingai.engine.engine import CheckpointEngine
from livingai.errors import (
    ImportMismatchError,
    ImportSourceError,
    InvalidNodeError,
    NotFoundError,
    StateEncodingError,
    UnreadableValueError,
)
from livingai.importing.kinds import ImportOptions, ImportSummary, Progress
from livingai.importing.rows_04 import SavedRow, open_source, read_row
from livingai.node import ExecutionNode
from livingai.serial import pack
from livingai.stores.ranges import NodeRange

#: Rows that are read at once, and saves after which what was added is waited for.
_PAGE: Final = 100
#: An import has no budget: nothing of it is late.
_NO_BUDGET_MS: Final = 1e9


class NodeContent(NamedTuple):
    """What the saves of a node leave: the node and its newest state, each as a hash."""

    node: bytes
    state: bytes | None


def run(
    where: str, engine: CheckpointEngine | None, options: ImportOptions, progress: Progress
) -> ImportSummary:
    """Import the file ``where``; see :class:`livingai.importing.kinds.ImportRun`. Of the summary,
    ``threads`` are executions, ``checkpoints`` saves, with or without a state."""
    try:
        with closing(open_source(where)) as connection:
            limit = DEFAULT_MAX_STATE_BYTES if engine is None else engine.config.max_state_bytes
            return _Import(_RowSource(connection, limit), engine, options, progress).run()
    except sqlite3.Error as error:
        raise ImportSourceError(f"{where} cannot be read: {error}") from error


class _RowSource:
    """The rows of an open database, as many as there were when it was opened."""

    def __init__(self, connection: sqlite3.Connection, max_state_bytes: int) -> None:
        self._connection = connection
        self._max_state_bytes = max_state_bytes
        (self._last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM nodes").fetchone()

    def executions(self) -> list[str]:
        """The ids of all executions, in order of their first save."""
        query = (
            "SELECT execution_id FROM nodes WHERE seq <= ? GROUP BY execution_id ORDER BY min(seq)"
        )
        names = [name for (name,) in self._connection.execute(query, (self._last,))]
        for name in names:
            if not isinstance(name, str) or (not name.isascii() and not _is_unicode(name)):
                raise UnreadableValueError(f"the execution id {name!r:.80} is no text")
        return names

    def rows(self, execution_id: str) -> Iterator[SavedRow]:
        """The saves of an execution, in order."""
        query = (
            "SELECT seq, id, execution_id, data, checkpoint FROM nodes "
            "WHERE execution_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        )
        behind = 0
        while True:
            asked = (execution_id, behind, self._last, _PAGE)
            page = self._connection.execute(query, asked).fetchall()
            for each in page:
                yield read_row(each, self._max_state_bytes)
            if len(page) < _PAGE:
                return
            behind = page[-1][0]


class _Import:
    """One import."""

    def __init__(
        self,
        source: _RowSource,
        engine: CheckpointEngine | None,
        options: ImportOptions,
        progress: Progress,
    ) -> None:
        self._source = source
        self._engine = engine
        self._options = options
        self._progress = progress
        self._summary = ImportSummary()

    def run(self) -> ImportSummary:
        """Import, flush and verify."""
        known = self._source.executions()
        chosen = list(dict.fromkeys(self._options.threads)) or known
        if missing := set(chosen) - set(known):
            raise ImportSourceError(f"the source has no execution {sorted(missing)[0]!r:.80}")
        for execution_id in chosen:
            self._summary.threads += 1
            self._summary.namespaces += 1
            self._move(execution_id)
        if self._engine is None or self._options.dry_run:
            return self._summary
        self._engine.flush_sync()
        for execution_id in chosen:
            self._verify(self._engine, execution_id)
            self._progress(self._summary)
        return self._summary

    def _move(self, execution_id: str) -> None:
        there = {} if self._engine is None else _stored(self._engine, execution_id)
        skip = self._already(execution_id, there) if there else 0
        for number, row in enumerate(self._source.rows(execution_id)):
            self._summary.checkpoints += 1
            if number >= skip:
                self._summary.added_checkpoints += 1
                _packed(row)
                if self._engine is not None and not self._options.dry_run:
                    _save(self._engine, row)
            if self._summary.checkpoints % _PAGE == 0:
                if self._engine is not None and not self._options.dry_run:
                    self._engine.flush_sync()
                self._progress(self._summary)

    def _already(self, execution_id: str, there: dict[str, NodeContent]) -> int:
        """How many rows of the execution the store has. Raises ImportMismatchError."""
        left: dict[str, NodeContent] = {}
        same = found = number = 0
        for number, row in enumerate(self._source.rows(execution_id), 1):
            same -= row.node.id in left and left[row.node.id] == there.get(row.node.id)
            left[row.node.id] = now = _left_by(row, left.get(row.node.id))
            same += now == there.get(row.node.id)
            if same == len(there) == len(left):
                found = number
        if found:
            return found
        if same == len(left):  # all is there, and more: a program has gone on
            return number
        raise _mismatch(execution_id, "is another one there, or was changed")

    def _verify(self, engine: CheckpointEngine, execution_id: str) -> None:
        there = _stored(engine, execution_id)
        left: dict[str, NodeContent] = {}
        newest: tuple[str, bytes] | None = None
        for row in self._source.rows(execution_id):
            left[row.node.id] = _left_by(row, left.get(row.node.id))
            if row.state is not None:
                newest = row.node.id, row.state
            self._summary.verified_checkpoints += 1
        different = [each for each in left if there.get(each) != left[each]]
        if different:
            raise _mismatch(execution_id, f"has another node {different[0]!r:.80}, or lacks it")
        if newest is not None and len(there) == len(left):
            node, state = engine.latest_sync(execution_id)
            if (node.id, state) != newest:
                raise _mismatch(execution_id, "has another newest checkpoint")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stored(engine: CheckpointEngine, execution_id: str) -> dict[str, NodeContent]:
    """What the store has of an execution, by node."""
    found: dict[str, NodeContent] = {}
    asked: NodeRange | None = NodeRange(limit=_PAGE)
    while asked is not None:
        try:
            page = engine.nodes_between_sync(execution_id, asked)
        except NotFoundError:
            return found
        for each in page:
            found[each.node.id] = _hashed(each.node, each.state)
        asked = page.rest
    return found


def _left_by(row: SavedRow, before: NodeContent | None) -> NodeContent:
    """A save without a state leaves the node its earlier one."""
    left = _hashed(row.node, row.state)
    if row.state is None and before is not None:
        return NodeContent(left.node, before.state)
    return left


def _hashed(node: ExecutionNode, state: Any) -> NodeContent:
    packed = None if state is None else xxhash.xxh3_128_digest(pack(state))
    return NodeContent(xxhash.xxh3_128_digest(pack(node.to_wire())), packed)


def _packed(row: SavedRow) -> None:
    """What cannot be stored is found in a dry run, too."""
    try:
        pack(row.node.to_wire())
    except StateEncodingError as error:
        raise _unreadable(row, error) from error


def _save(engine: CheckpointEngine, row: SavedRow) -> None:
    try:
        engine.save_sync(row.node, row.state, budget_ms=_NO_BUDGET_MS, history=True)
    except (InvalidNodeError, StateEncodingError) as error:
        raise _unreadable(row, error) from error


def _unreadable(row: SavedRow, error: Exception) -> UnreadableValueError:
    return UnreadableValueError(f"row {row.seq} of the source cannot be stored: {error}")


def _mismatch(execution_id: str, what: str) -> ImportMismatchError:
    return ImportMismatchError(
        f"execution {execution_id!r:.80} {what} in the store. Delete it there first (`livingai "
        "delete`), or import into another store; nothing was changed in the source"
    )
