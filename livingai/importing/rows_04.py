"""Reading the rows of livingai 0.4.1: its file, its JSON, its blobs. Every byte may be hostile.

==============  =================================================================================
0.4.1           here
==============  =================================================================================
``type``        in capital letters there: ``TOOL`` is ``tool``
``status``      as ``type``; a TOOL that is ``RUNNING`` there is in doubt here
``created_at``  ISO 8601 there, seconds since the Unix epoch here, as is ``completed_at``
``cost_tokens``  0 where it was not known (null), as is ``latency_ms``
``metadata``    as it is, but for ``idempotent``: 0.4.1 heeds ``true`` and ``false`` only, so any
                other value, which would count as true here, is left out
==============  =================================================================================
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from livingai.errors import ImportSourceError, InvalidNodeError, UnreadableValueError
from livingai.node import ErrorInfo, ExecutionNode, NodeType, Status, validate_node

_COLUMNS: Final = {"seq", "id", "execution_id", "data", "checkpoint"}
_RAW, _ZLIB = 0x00, 0x01


class SavedRow(NamedTuple):
    """One save."""

    seq: int
    node: ExecutionNode
    #: None: it was saved without one.
    state: bytes | None


def open_source(path: str) -> sqlite3.Connection:
    """A connection to the database that can only read.

    Raises:
        ImportSourceError: it is not there, or no database of livingai 0.4.
    """
    if not os.path.isfile(path):
        raise ImportSourceError(f"there is no file {path}")
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
    connection.text_factory = _text
    try:
        connection.execute("PRAGMA query_only = ON")
        columns = {row[1] for row in connection.execute("PRAGMA table_info(nodes)")}
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ImportSourceError(f"{path} cannot be read as an SQLite database: {error}") from error
    if missing := _COLUMNS - columns:
        connection.close()
        what = f"its table nodes lacks {', '.join(sorted(missing))}" if columns else "it has none"
        newer = any(name.startswith("livingai_") for name in tables)
        hint = "; it is of this livingai: open it as it is" if newer else ""
        raise ImportSourceError(f"{path} is no database of livingai 0.4: {what}{hint}")
    return connection


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def read_row(row: tuple[Any, ...], max_state_bytes: int) -> SavedRow:
    """One row of the table.

    Raises:
        UnreadableValueError: it is damaged, or was encoded by a compressor of the program's own.
    """
    seq, node_id, execution_id, data, checkpoint = row
    try:
        node = _node(json.loads(data.encode()))  # not what is no Unicode
        if (node.id, node.execution_id) != (node_id, execution_id):
            raise ValueError("the node's JSON has other ids than its row")
        state = None if checkpoint is None else decoded(checkpoint, max_state_bytes)
    except (
        ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
        zlib.error, InvalidNodeError,
    ) as error:  # fmt: skip
        raise UnreadableValueError(
            f"row {seq} (table nodes, column seq) cannot be read: {type(error).__name__}: {error}. "
            "It is damaged, or another program wrote it"
        ) from error
    return SavedRow(int(seq), node, state)


def decoded(blob: Any, max_state_bytes: int) -> bytes:
    """A checkpoint's state. Raises ValueError, zlib.error."""
    if not isinstance(blob, bytes):
        raise TypeError("the checkpoint is no blob")
    if not blob:
        return b""
    if blob[0] == _RAW:
        return blob[1:]
    if blob[0] != _ZLIB:
        raise ValueError(
            f"the checkpoint begins with byte {blob[0]:#04x}, 0.4.1 has 0x00 and 0x01: a "
            "compressor of the program's own made it"
        )
    unpack = zlib.decompressobj()
    state = unpack.decompress(blob[1:], max_state_bytes + 1)
    if len(state) > max_state_bytes:
        raise ValueError(f"the state has more than max_state_bytes ({max_state_bytes}) bytes")
    if not unpack.eof:
        raise ValueError("the checkpoint ends too early")
    return state


def _node(data: dict[str, Any]) -> ExecutionNode:
    metadata = dict(data.get("metadata") or {})
    if not isinstance(metadata.get("idempotent", True), bool):
        del metadata["idempotent"]
    node = ExecutionNode(
        execution_id=data["execution_id"],
        type=NodeType(data["type"].lower()),
        status=Status(data["status"].lower()),
        input=data.get("input"),
        output=data.get("output"),
        error=_error(data.get("error")),
        parent_id=data.get("parent_id"),
        cost_tokens=int(data.get("cost_tokens") or 0),
        latency_ms=float(data.get("latency_ms") or 0),
        metadata=metadata,
        id=data["id"],
        created_at=_time(data.get("created_at")) or 0.0,
        completed_at=_time(data.get("completed_at")),
    )
    validate_node(node)
    return node


def _error(data: Mapping[str, Any] | None) -> ErrorInfo | None:
    if data is None:
        return None
    trace = data.get("traceback")
    return ErrorInfo(str(data["type"]), str(data["message"]), None if trace is None else str(trace))


def _time(text: str | None) -> float | None:
    if text is None:
        return None
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
