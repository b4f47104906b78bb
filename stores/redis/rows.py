"""A :class:`~livingai.stores.base.Row` as arguments of a script, and replies as what was stored.

``wire``, ``checkpoint`` and blob each have an XXH3-64 sum; a read returns the bytes that were
written or raises. ``wire`` and ``checkpoint`` hold theirs in their first 8 bytes, a blob's is in
its checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgpack
import xxhash

from livingai.errors import CorruptBlobError, CorruptRecordError, CorruptRowError, LivingAIError
from livingai.node import NodeField
from livingai.stores.base import Row
from livingai.stores.checked import digest, moment, node_section, of_a_row, whole
from livingai.stores.redis.keys import MAX_EPOCH, Keys, as_bytes, sortable
from livingai.stores.shared.human import plain_text
from livingai.stores.shared.rows import Write, prepare
from livingai.stores.standing import Standing, standing

_SUM_BYTES: Final = 8
#: Without the types that the msgpack of old servers' Lua does not know.
pack_for_lua = msgpack.Packer(use_bin_type=False).pack
_sum = xxhash.xxh3_64_digest
#: Most bytes that a Redis string may have, unless ``proto-max-bulk-len`` was changed.
MAX_VALUE_BYTES: Final = 512 << 20


class Checkpoint(NamedTuple):
    """The fields of a checkpoint besides its blob."""

    claim: str
    node_id: str
    state_kind: int
    raw_bytes: int
    stored_bytes: int
    saved_at: float
    base_hash: bytes | None
    content_hash: bytes | None
    blob_sum: bytes


class Ready(NamedTuple):
    """A row that is fit to be sent; ``size`` is about how many bytes it takes on the way."""

    write: Write
    size: int


def make_ready(row: Row, max_value_bytes: int) -> Ready | str:
    """``row`` ready to be sent, or the reason why this server could never take it."""
    write = prepare(row)
    if isinstance(write, str):
        return write
    if row.epoch >= MAX_EPOCH:
        return f"epoch must be below {MAX_EPOCH} for a Redis store"
    names = sum(len(as_bytes(text)) for text in (row.execution_id, row.node_id, row.claim))
    largest = max(write.stored_bytes, len(write.wire), names) + 1024
    if largest > max_value_bytes:
        return (
            f"a key or value of {largest} bytes exceeds the server's limit of {max_value_bytes} "
            "(proto-max-bulk-len, client-query-buffer-limit)"
        )
    return Ready(write, write.stored_bytes + len(write.wire) + 2 * names + 256)


def row_arguments(write: Write, blob_key: int) -> tuple[bytes, bytes, bytes, bytes]:
    """The arguments of a row (``commit.lua``); ``blob_key``: number of its blob's key."""
    row = write.row
    base, content = _plain(row.base_hash), _plain(row.content_hash)
    claim, node_id = as_bytes(row.claim), as_bytes(row.node_id)
    fields = (
        claim, row.epoch, sortable(row.seq), node_id, plain_text(row.wire[NodeField.STATUS]),
        repr(write.saved_at), base, content, blob_key if row.blob is not None else 0,
        *standing_fields(standing(row.wire)),
    )  # fmt: skip
    wire = write.wire_sum + write.wire
    if row.blob is None:
        return pack_for_lua(fields), wire, b"", b""
    checkpoint = pack_for_lua(
        (
            claim, node_id, row.state_kind, row.raw_bytes, write.stored_bytes, write.saved_at,
            base, content, _sum(row.blob),
        )
    )  # fmt: skip
    return pack_for_lua(fields), wire, _sum(checkpoint) + checkpoint, row.blob


def standing_fields(said: Standing) -> tuple[int, str, str, str]:
    """What a row says of its execution: 1 if it is a life's, its error, when that life began and
    ended (in text; empty: not known)."""
    times = ("" if at is None else repr(at) for at in (said.entered_at, said.ended_at))
    return (int(said.is_life), said.error, *times)  # type: ignore[return-value]


def blob_keys(keys: Keys, writes: list[Write]) -> list[bytes]:
    """The keys of the blobs of one execution's rows, in order, those without a blob left out."""
    return [
        keys.blob(write.row.execution_id, write.row.claim, write.row.seq)
        for write in writes
        if write.row.blob is not None
    ]


def _plain(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)


# --- replies -------------------------------------------------------------------------------------


@contextmanager
def parsing(execution_id: str) -> Iterator[None]:
    """What is read inside the block has no checksum, but a known form.

    Raises:
        CorruptRecordError: it has another one.
    """
    try:
        yield
    except CorruptRecordError as error:
        found = of_a_row(error, execution_id)
        if found is error:
            raise
        raise found from error
    except (LivingAIError, MemoryError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise CorruptRowError(
            f"what the Redis server has of execution {execution_id} is damaged: another program "
            "changed it, or a part was evicted (use maxmemory-policy noeviction)"
        ) from error


def evicted(execution_id: str) -> CorruptRowError:
    """What to raise where the list of an execution's nodes and its data do not fit."""
    return CorruptRowError(
        f"the Redis server has lost nodes of execution {execution_id}, or the list of them: it was "
        "evicted, or another program removed it (use maxmemory-policy noeviction)"
    )


def read_wire(execution_id: str, stored: bytes | None, node_id: str | None = None) -> list[Any]:
    """The node section as it was written.

    Raises:
        CorruptRecordError: the bytes are not those that were written, or are gone.
    """
    if isinstance(stored, bytes) and _sum(stored[_SUM_BYTES:]) == stored[:_SUM_BYTES]:
        return node_section(execution_id, node_id, stored[_SUM_BYTES:])
    raise CorruptRowError(
        f"a node of execution {execution_id} is gone from the Redis server or does not match its "
        "checksum: another program changed it, or it was evicted (use maxmemory-policy noeviction)"
    )


def read_checkpoint(execution_id: str, stored: bytes | None) -> Checkpoint:
    """What is known of a checkpoint.

    Raises:
        CorruptRecordError: as :func:`read_wire`.
    """
    if isinstance(stored, bytes) and _sum(stored[_SUM_BYTES:]) == stored[:_SUM_BYTES]:
        with parsing(execution_id):
            return _checkpoint(msgpack.unpackb(stored[_SUM_BYTES:], raw=True))
    raise _corrupt_blob(execution_id)


def _checkpoint(fields: Any) -> Checkpoint:
    claim, node_id, kind, raw_bytes, stored_bytes, saved_at, base, content, blob_sum = fields
    return Checkpoint(
        claim.decode(), node_id.decode(), whole(kind, "state_kind"), whole(raw_bytes, "raw_bytes"),
        whole(stored_bytes, "stored_bytes"), moment(saved_at, "saved_at"),
        digest(base, "base_hash"), digest(content, "content_hash"), blob_sum,
    )  # fmt: skip


def read_blob(execution_id: str, checkpoint: Checkpoint, blob: bytes | None) -> bytes:
    """The encoded checkpoint as it was written.

    Raises:
        CorruptBlobError: the bytes are not those that were written, or are gone.
    """
    if isinstance(blob, bytes) and _sum(blob) == checkpoint.blob_sum:
        return blob
    raise _corrupt_blob(execution_id)


def _corrupt_blob(execution_id: str) -> CorruptBlobError:
    return CorruptBlobError(
        f"a checkpoint of execution {execution_id} is gone from the Redis server or does not match "
        "its checksum: another program changed it, or it was evicted (use maxmemory-policy "
        "noeviction)"
    )


def number(value: object) -> float:
    """A stored number that people may have set to anything; 0.0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    try:
        real = float(value)
    except OverflowError:
        return 0.0
    return real if math.isfinite(real) else 0.0
