"""What a store has in its rows, checked before anything is done with it.

Other programs can write to a database, and disks fail. Rules:

1. Whatever a row holds, a read returns what was written or raises
   :class:`~livingai.errors.CorruptRecordError`, which names the execution; never another error.
2. A listing goes on behind a line that makes no sense: it comes with
   :attr:`~livingai.stores.base.ExecutionInfo.damage` and without figures.
3. A word that is not known here (a node's status, a state's kind) is no damage to a store: a newer
   livingai may have written it. Only code that has to understand it refuses it, and says so.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from livingai.errors import (
    CorruptBlobError,
    CorruptRecordError,
    CorruptRowError,
    LivingAIError,
    StoreError,
)
from livingai.node import NodeField
from livingai.serial import unpack
from livingai.stores.base import ExecutionInfo, StoredCheckpoint

_INT64: Final = 1 << 63


@contextmanager
def rows_of(execution_id: str, where: str = "the database") -> Iterator[None]:
    """Inside the block rows of one execution are taken apart.

    Raises:
        CorruptRowError: they have another form than any that livingai writes.
    """
    try:
        yield
    except CorruptRecordError as e:
        found = of_a_row(e, execution_id)
        if found is e:
            raise
        raise found from e
    except (LivingAIError, MemoryError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error) as e:
        raise CorruptRowError(
            f"what {where} has of execution {execution_id} is damaged, or another program changed "
            f"it: {type(e).__name__}: {e}"[:600]
        ) from e


def of_a_row(error: CorruptRecordError, execution_id: str) -> CorruptRecordError:
    """``error``, found in what a store has of an execution, as one of the store's that names it."""
    named = execution_id in str(error)
    cls = type(error) if isinstance(error, StoreError) else CorruptRowError
    if named and cls is type(error):
        return error
    return cls(str(error) if named else f"execution {execution_id}: {error}")


def whole(value: object, name: str) -> int:
    """``value``, if it is an integer from 0 to 2**63 - 1. Raises ValueError."""
    if type(value) is not int or not 0 <= value < _INT64:
        raise ValueError(f"{name} is {_shown(value)}, not an integer from 0 to 2**63 - 1")
    return value


def integer(value: object, name: str) -> int:
    """``value``, if it is an integer. Raises ValueError."""
    if type(value) is not int:
        raise ValueError(f"{name} is {_shown(value)}, not an integer")
    return value


def moment(value: object, name: str) -> float:
    """``value`` as a finite number. Raises ValueError."""
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} is {_shown(value)}, not a number")
    return float(value)  # type: ignore[arg-type]


def text(value: object, name: str) -> str:
    """``value``, if it is text. Raises ValueError."""
    if type(value) is not str:
        raise ValueError(f"{name} is {_shown(value)}, not text")
    return value


def digest(value: object, name: str) -> bytes | None:
    """``value``, if it is bytes or None. Raises ValueError."""
    if value is None or type(value) is bytes:
        return value
    raise ValueError(f"{name} is {_shown(value)}, not a hash")


def _shown(value: object) -> str:
    if isinstance(value, (str, bytes)) and len(value) > 40:
        return f"{type(value).__name__} of length {len(value)}"
    return "NULL" if value is None else repr(value)[:80]


def node_section(execution_id: str, node_id: str | None, packed: bytes) -> list[Any]:
    """A node section whose checksum is right, decoded; ``node_id`` None: of any node. A newer
    version may have appended fields.

    Raises:
        CorruptRecordError: it is not one of that node.
    """
    try:
        fields: Any = unpack(packed)
    except CorruptRecordError as error:
        raise CorruptRowError(
            f"node {node_id or ''} of execution {execution_id} does not decode: {error}"
        ) from error
    if (
        type(fields) is not list
        or len(fields) < len(NodeField)
        or fields[NodeField.EXECUTION_ID] != execution_id
        or type(fields[NodeField.ID]) is not str
        or (node_id is not None and fields[NodeField.ID] != node_id)
        or type(fields[NodeField.TYPE]) is not str
        or type(fields[NodeField.STATUS]) is not str
    ):
        raise CorruptRowError(
            f"node {node_id or ''} of execution {execution_id} is damaged: what is stored is no "
            "section of that node"
        )
    return fields


def checkpoint(found: StoredCheckpoint) -> StoredCheckpoint:
    """``found``, made from columns as they are, if they make sense. Raises ValueError."""
    for name in ("epoch", "seq", "state_kind", "raw_bytes", "stored_bytes"):
        whole(getattr(found, name), name)
    text(found.node_id, "node_id")
    digest(found.base_hash, "base_hash")
    digest(found.content_hash, "content_hash")
    moment(found.saved_at, "saved_at")
    return found


def newest_checkpoint(
    execution_id: str, wire: list[Any], version: tuple[object, object], blob: bytes,
    kind: object, raw_bytes: object,
) -> StoredCheckpoint:  # fmt: skip
    """A checkpoint with what a single read needs of it.

    Raises:
        CorruptBlobError: its row makes no sense.
    """
    try:
        return StoredCheckpoint(
            wire, whole(version[0], "epoch"), whole(version[1], "seq"), blob,
            whole(kind, "state_kind"), raw_bytes=whole(raw_bytes, "raw_bytes"),
        )  # fmt: skip
    except ValueError as error:
        raise CorruptBlobError(
            f"a checkpoint of execution {execution_id} (node {wire[NodeField.ID]}) has a damaged "
            f"row: {error}"
        ) from error


def owner(epoch: object, claim: object) -> tuple[int, str | None]:
    """A line of ``owners``. Raises ValueError."""
    return whole(epoch, "epoch"), None if claim is None else text(claim, "claim")


def execution_line(info: ExecutionInfo) -> ExecutionInfo:
    """``info``, made from columns as they are; where they make no sense, one that says so."""
    try:
        for name in ("epoch", "seq", "nodes", "checkpoints", "stored_bytes"):
            whole(getattr(info, name), name)
        for name in ("created_at", "updated_at"):
            moment(getattr(info, name), name)
        for name in ("entered_at", "ended_at"):
            if getattr(info, name) is not None:
                moment(getattr(info, name), name)
        for name in ("status", "error"):
            text(getattr(info, name), name)
    except ValueError as error:
        return damaged_line(info.execution_id, str(error))
    return info


def damaged_line(execution_id: str, why: str) -> ExecutionInfo:
    """The line of an execution of which nothing else is known."""
    return ExecutionInfo(execution_id, 0, 0, 0, 0, 0, 0.0, 0.0, "", damage=why)
