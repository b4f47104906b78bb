"""A record's sections: a node and a state, as bytes and back."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from livingai import serial
from livingai.errors import (
    CorruptBlobError,
    CorruptRecordError,
    CorruptRowError,
    InvalidNodeError,
    StateEncodingError,
    StateTooLargeError,
)
from livingai.node import ExecutionNode, validate_node
from livingai.queue.layout import StateKind
from livingai.queue.record import Record

#: Node section, extension section, state kind, state section.
Sections = tuple[bytes, bytes, int, bytes]


def encode_sections(
    node: ExecutionNode, state: Any, tags: dict[str, Any] | None, max_bytes: int
) -> Sections:
    """Encode what :meth:`~livingai.CheckpointEngine.save` was given.

    Raises:
        InvalidNodeError: the node cannot be stored.
        StateEncodingError: state or tags hold a value that msgpack cannot carry, or a tag has a
            name that is not the caller's to give.
        StateTooLargeError: node, tags and state have more than ``max_bytes`` bytes.
    """
    validate_node(node)
    try:
        wire = serial.pack(node.to_wire())
    except StateEncodingError as error:
        where = _place_in(node) or error
        raise InvalidNodeError(f"the node cannot be encoded: {where}") from error
    if state is None:
        kind, raw = StateKind.NONE, b""
    elif type(state) is bytes:
        kind, raw = StateKind.BYTES, state
    elif isinstance(state, memoryview):
        kind, raw = StateKind.BYTES, state.tobytes()
    elif isinstance(state, bytearray):
        kind, raw = StateKind.BYTEARRAY, bytes(state)
    else:
        kind, raw = StateKind.MSGPACK, serial.pack(state)
    ext = _pack_tags(tags) if tags else b""
    if len(raw) + len(wire) + len(ext) > max_bytes:
        raise StateTooLargeError(
            f"the state of {node.execution_id} has {len(raw)} bytes, its node {len(wire)} and the "
            f"tags {len(ext)}, more than max_state_bytes={max_bytes}; raise the limit, or keep "
            "large artefacts outside the state"
        )
    return wire, ext, kind, raw


def _place_in(node: ExecutionNode) -> StateEncodingError | None:
    """Which field it is that cannot be encoded, and where in it."""
    fields = [field.name for field in dataclasses.fields(node)]
    values = [(f"node.{name}", getattr(node, name)) for name in fields if name != "error"]
    if node.error is not None:
        values += [(f"node.error.{name}", getattr(node.error, name))
                   for name in ("type", "message", "traceback", "retryable")]  # fmt: skip
    for name, value in values:
        try:
            if name not in ("node.type", "node.status"):
                serial.pack(value, name)
        except StateEncodingError as error:
            return error
    return None


def _pack_tags(tags: dict[str, Any]) -> bytes:
    if not isinstance(tags, dict):
        raise StateEncodingError(f"tags must be a dict, not {type(tags).__name__}")
    for name in tags:
        if not isinstance(name, str) or name.startswith("_"):
            raise StateEncodingError(
                f"a tag's name must be a string that does not begin with an underscore (those are "
                f"livingai's own), got {name!r}"
            )
    return serial.pack(tags, "tags")


class Cached(NamedTuple):
    """A verified hit: the node that was saved, its state, and the record it came from."""

    node: ExecutionNode
    state: Any
    record: Record


def decode_state(kind: int, raw: bytes) -> Any:
    """The value that the caller saved, from a record's or checkpoint's raw state bytes.

    Raises:
        CorruptRecordError: they do not decode, or are of a kind that a newer version writes.
    """
    if kind == StateKind.BYTES:
        return raw
    if kind == StateKind.MSGPACK:
        return serial.unpack(raw)
    if kind == StateKind.BYTEARRAY:
        return bytearray(raw)
    if kind == StateKind.NONE:
        return None
    raise CorruptRecordError(
        f"a state is of kind {kind!r}, this livingai knows kinds up to {max(StateKind)}; a newer "
        "one may have written it: upgrade livingai to read it"
    )


def decode_stored_state(kind: int, raw: bytes, node_id: str, execution_id: str) -> Any:
    """As :func:`decode_state`, of a checkpoint of the store.

    Raises:
        CorruptBlobError: it does not decode; the message names the checkpoint.
    """
    try:
        return decode_state(kind, raw)
    except CorruptRecordError as error:
        raise CorruptBlobError(
            f"the state of node {node_id} of execution {execution_id}: {error}"
        ) from error


def decode_checkpoint(
    wire: bytes, kind: int, raw: bytes | None, execution_id: str | None
) -> tuple[ExecutionNode, Any]:
    """A node of the store and its state (``raw`` None: it has none); ``execution_id`` None: of any
    execution.

    Raises:
        CorruptRowError: the section is none of a node, or of another execution's.
        CorruptBlobError: the state does not decode.
    """
    try:
        node = ExecutionNode.from_wire(serial.unpack(wire))  # type: ignore[arg-type]
    except CorruptRecordError as error:
        of = "a node" if execution_id is None else f"a node of execution {execution_id}"
        raise CorruptRowError(f"{of}: {error}") from error
    if execution_id is not None and node.execution_id != execution_id:
        raise CorruptRowError(f"execution {execution_id} has a row of another one")
    if raw is None:
        return node, None
    return node, decode_stored_state(kind, raw, node.id, node.execution_id)
