"""A :class:`~livingai.stores.base.Row` as a store writes it: exact bytes for us, readable text for
people. What SQLite, PostgreSQL and Redis have in common.

Rules:

1. ``wire`` and ``blob`` are the truth. Each has an XXH3-64 sum beside it; a read returns the bytes
   that were written or raises.
2. Every other column is for people and queries, and never makes a write fail. A value of more than
   :data:`JSON_BYTES` is left out (NULL).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import xxhash

from livingai.errors import CorruptBlobError, CorruptRecordError, CorruptRowError, FencedError
from livingai.node import NodeField
from livingai.serial import pack
from livingai.stores.base import Row
from livingai.stores.checked import node_section
from livingai.stores.shared.human import JSON_BYTES, human_json, is_small, outline, plain_text, real

_INT64: Final = 1 << 63

# Plain integers: an index through the enum costs twice as much, and every write takes a dozen.
_EXECUTION_ID: Final = int(NodeField.EXECUTION_ID)
_ID: Final = int(NodeField.ID)
_TYPE: Final = int(NodeField.TYPE)
_STATUS: Final = int(NodeField.STATUS)
_PARENT_ID: Final = int(NodeField.PARENT_ID)
_CREATED_AT: Final = int(NodeField.CREATED_AT)
_COMPLETED_AT: Final = int(NodeField.COMPLETED_AT)
_COST_TOKENS: Final = int(NodeField.COST_TOKENS)
_LATENCY_MS: Final = int(NodeField.LATENCY_MS)
_INPUT: Final = int(NodeField.INPUT)
_ERROR: Final = int(NodeField.ERROR)
_METADATA: Final = int(NodeField.METADATA)

_sum = xxhash.xxh3_64_digest
NodeColumns = tuple[Any, ...]


class Write(NamedTuple):
    """A row that is fit to be stored, with its packed wire; sizes in bytes, times in seconds."""

    row: Row
    wire: bytes
    wire_sum: bytes
    stored_bytes: int
    saved_at: float


def prepare(row: Row) -> Write | str:
    """``row`` ready for a batch, or the reason why no store could ever take it."""
    try:
        wire = row.wire
        if wire[_EXECUTION_ID] != row.execution_id or wire[_ID] != row.node_id:
            return "the row and its node section name different nodes"
        for name in ("execution_id", "node_id", "claim"):
            value = getattr(row, name)
            if not isinstance(value, str) or not value:
                return f"{name} must be a non-empty string"
            value.encode()
        if not (
            isinstance(wire[_TYPE], str)
            and isinstance(wire[_STATUS], str)
            and len(wire) >= len(NodeField)
        ):
            return "the node section has no type and status"
        for name in ("blob", "base_hash", "content_hash"):
            if not isinstance(getattr(row, name), (bytes, bytearray, memoryview, type(None))):
                return f"{name} must be bytes or None"
        for name in ("epoch", "seq", "state_kind", "raw_bytes"):
            value = getattr(row, name)
            if not isinstance(value, int) or not 0 <= value < _INT64:
                return f"{name} must be an integer from 0 to 2**63 - 1"
        packed = row.packed or pack(wire)
        stored_bytes = 0 if row.blob is None else len(row.blob)
        return Write(row, packed, _sum(packed), stored_bytes, real(row.saved_at) or 0.0)
    except UnicodeEncodeError:
        return "an id or claim with lone surrogates is no text that a store can hold"
    except MemoryError:
        raise  # ours, not the row's
    except Exception as error:  # whatever is wrong with this row is its own trouble
        return f"the node section cannot be packed: {type(error).__name__}: {error}"


def owned(execution_id: str, epoch: int, newest: int) -> int:
    """``epoch``, which a claim has, if it is the ``newest`` one of the execution.

    Raises:
        FencedError: it is not.
    """
    if epoch < newest:
        raise FencedError(
            f"execution {execution_id} has passed to epoch {newest}; this process had {epoch} and "
            "may no longer write to it"
        )
    return epoch


def node_columns(write: Write) -> NodeColumns:
    """The columns of ``nodes`` from ``type`` to ``wire``, in the schema's order."""
    row = write.row
    wire = row.wire
    metadata = wire[_METADATA]
    values = wire[_INPUT : _ERROR + 1]
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if len(write.wire) <= JSON_BYTES:
        texts = [human_json(value) for value in (*values, metadata or None)]
    else:
        texts = [human_json(value) if is_small(value) else None for value in values]
        texts.append(human_json(metadata if is_small(metadata) else outline(metadata)))
    return (
        plain_text(wire[_TYPE]),
        plain_text(wire[_STATUS]),
        plain_text(name),
        plain_text(wire[_PARENT_ID]),
        cost_tokens(write),
        real(wire[_LATENCY_MS]),
        real(wire[_CREATED_AT]),
        real(wire[_COMPLETED_AT]),
        write.saved_at,
        *texts,
        write.wire_sum,
        write.wire,
    )


def cost_tokens(write: Write) -> int:
    """The node's tokens; 0 for what is no 64-bit integer."""
    value = write.row.wire[_COST_TOKENS]
    return value if isinstance(value, int) and -_INT64 <= value < _INT64 else 0


def checkpoint_columns(write: Write, blob: bytes) -> tuple[Any, ...]:
    """The columns of ``checkpoints`` from ``node_id`` to ``saved_at``, then ``blob_sum``."""
    row = write.row
    return (
        row.node_id,
        row.state_kind,
        blob[0] if blob else None,
        row.raw_bytes,
        write.stored_bytes,
        row.base_hash,
        row.content_hash,
        write.saved_at,
        _sum(blob),
    )


def read_wire(execution_id: str, node_id: str, wire: bytes | None, wire_sum: bytes) -> list[Any]:
    """The node section as it was written.

    Raises:
        CorruptRecordError: the bytes are not those that were written.
    """
    return node_section(execution_id, node_id, check_wire(execution_id, node_id, wire, wire_sum))


def check_wire(execution_id: str, node_id: str, wire: bytes | None, wire_sum: bytes) -> bytes:
    """The packed node section as it was written.

    Raises:
        CorruptRecordError: the bytes are not those that were written.
    """
    if isinstance(wire, bytes) and wire and _sum(wire) == wire_sum:
        return wire
    raise _damaged(execution_id, node_id)


def _damaged(execution_id: str, node_id: str) -> CorruptRecordError:
    return CorruptRowError(
        f"node {node_id} of execution {execution_id} does not match its checksum; the database "
        "is damaged"
    )


def read_blob(execution_id: str, blob: bytes | None, blob_sum: bytes) -> bytes:
    """The encoded checkpoint as it was written.

    Raises:
        CorruptBlobError: the bytes are not those that were written, or are gone.
    """
    if isinstance(blob, bytes) and _sum(blob) == blob_sum:
        return blob
    raise CorruptBlobError(
        f"a checkpoint of execution {execution_id} does not match its checksum; the database is "
        "damaged"
    )
