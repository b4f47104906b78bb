"""A record's sections: a node and a state, as bytes."""

from __future__ import annotations

from typing import Any

from livingai import serial
from livingai.errors import InvalidNodeError, StateEncodingError, StateTooLargeError
from livingai.node import ExecutionNode, validate_node
from livingai.queue.layout import StateKind

#: Node section, extension section, state kind, state section.
Sections = tuple[bytes, bytes, int, bytes]


def encode_sections(
    node: ExecutionNode, state: Any, tags: dict[str, Any] | None, max_bytes: int
) -> Sections:
    """Encode what :meth:`~livingai.CheckpointEngine.save` was given.

    Raises:
        InvalidNodeError: the node cannot be stored.
        StateEncodingError: state or tags hold a value that msgpack cannot carry.
        StateTooLargeError: node and state have more than ``max_bytes`` bytes.
    """
    validate_node(node)
    try:
        wire = serial.pack(node.to_wire())
    except StateEncodingError as error:
        raise InvalidNodeError(f"the node cannot be encoded: {error}") from error
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
    if tags and not isinstance(tags, dict):
        raise StateEncodingError(f"tags must be a dict, not {type(tags).__name__}")
    if len(raw) + len(wire) > max_bytes:
        raise StateTooLargeError(
            f"the state of {node.execution_id} has {len(raw)} bytes and its node {len(wire)}, "
            f"more than max_state_bytes={max_bytes}; raise the limit, or "
            "keep large artefacts outside the state"
        )
    return wire, serial.pack(tags) if tags else b"", kind, raw
