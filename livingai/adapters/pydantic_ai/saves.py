"""What a conversation is stored as: a log of saves, and how one is read.

A conversation is an execution, ``pydantic-ai:conversation/<id>``. Its nodes never change:

* ``<execution>/save/<number>-<moment>``: the record after a save or a branch, and as its state the
  entries that came with it. So record and entries are stored together, or not at all.
* the same with the kind ``delete``: the conversation was deleted. ``floor`` is the number of the
  newest save whose entries are gone with it; those behind it stay.
* ``<execution>/share/<moment>``: a fork's history goes through entries of this conversation.
* ``pydantic-ai:entry/<entry id>``: which save an entry came with. It is written before that save,
  and means nothing until the save is there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_core import PydanticSerializationError

from livingai.adapters.names import behind_prefix, execution_name, part_name
from livingai.errors import CorruptRowError, StateEncodingError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import NodeRange

FRAMEWORK: Final = "pydantic-ai"
#: How the ids of all conversations' executions begin.
PREFIX: Final = f"{FRAMEWORK}:conversation/"
_DIGITS: Final = 12
_RECORD: Final[TypeAdapter[ConversationRecord]] = TypeAdapter(ConversationRecord)
_ENTRIES: Final[TypeAdapter[list[ConversationEntry]]] = TypeAdapter(list[ConversationEntry])


@dataclass(frozen=True, slots=True)
class SavedRecord:
    """A save, or a deletion (``record`` is None)."""

    id: str
    number: int
    floor: int
    record: ConversationRecord | None


#: Before the first one.
NO_SAVE: Final = SavedRecord("", 0, 0, None)


def conversation_execution(conversation_id: str) -> str:
    """The id of a conversation's execution."""
    return execution_name(FRAMEWORK, "conversation", conversation_id)


def save_id(execution_id: str, number: int, moment: str) -> str:
    """The id of the save with that number."""
    return f"{execution_id}/save/{number:0{_DIGITS}d}-{moment}"


def save_node(
    node_id: str, execution_id: str, floor: int, record: ConversationRecord
) -> ExecutionNode:
    """The node of a save.

    Raises:
        StateEncodingError: the record holds what JSON lacks.
    """
    node = _node(execution_id, node_id, "save")
    node.output = _plain(_RECORD, record, f"the record of {record.conversation_id!r}")
    node.metadata["floor"] = floor
    return node


def deletion_node(node_id: str, execution_id: str, floor: int) -> ExecutionNode:
    """The node of a deletion. Its status tells a deleted conversation in a list of executions."""
    node = _node(execution_id, node_id, "delete", Status.PENDING)
    node.metadata["floor"] = floor
    return node


def share_node(execution_id: str, moment: str) -> ExecutionNode:
    """The node that says that a fork's history goes through a conversation's entries."""
    return _node(execution_id, f"{execution_id}/share/{moment}", "share")


def entry_node_id(entry_id: str) -> str:
    """The id of the node that says which save an entry came with."""
    return f"{FRAMEWORK}:entry/{part_name(entry_id)}"


def save_number(node: ExecutionNode) -> int:
    """The number of a save, or of the one that an entry came with.

    Raises:
        CorruptRowError: it is neither's node.
    """
    name = node.metadata.get("save", node.id.rpartition("/")[2])
    digits = name[:_DIGITS] if isinstance(name, str) else ""
    if len(digits) < _DIGITS or not (digits.isascii() and digits.isdigit()):
        raise _corrupt(node, "its id")
    return int(digits)


def entry_node(execution_id: str, entry_id: str, save: str) -> ExecutionNode:
    """That node."""
    node = _node(execution_id, entry_node_id(entry_id), "entry")
    node.metadata["save"] = save.removeprefix(f"{execution_id}/save/")
    return node


def plain_entries(entries: Sequence[ConversationEntry], conversation_id: str) -> Any:
    """Entries as plain values.

    Raises:
        StateEncodingError: a message holds what JSON lacks.
    """
    return _plain(_ENTRIES, list(entries), f"a message of {conversation_id!r}")


def _plain(adapter: TypeAdapter[Any], value: Any, what: str) -> Any:
    try:
        return adapter.dump_python(value, mode="json")
    except PydanticSerializationError as error:
        raise StateEncodingError(f"{what} cannot be stored as JSON: {error}") from error


def _node(
    execution_id: str, node_id: str, kind: str, status: Status = Status.SUCCESS
) -> ExecutionNode:
    now = time.time()
    return ExecutionNode(
        execution_id, NodeType.MEMORY, status, id=node_id,
        metadata={"framework": FRAMEWORK, "kind": kind}, created_at=now, completed_at=now,
    )  # fmt: skip


# -- reading --


def saves_range(
    execution_id: str, *, upto: str | None = None, limit: int = 1, states: bool = False
) -> NodeRange:
    """Asks for saves, newest first; from the one that ends in ``upto`` on."""
    prefix = f"{execution_id}/save/"
    behind = behind_prefix(prefix) if upto is None else f"{prefix}{upto}\0"
    return NodeRange(prefix, behind, limit, backwards=True, states=states)


def shares_range(execution_id: str) -> NodeRange:
    """Asks whether there are any forks."""
    prefix = f"{execution_id}/share/"
    return NodeRange(prefix, behind_prefix(prefix), limit=1, states=False)


def entries_range(limit: int) -> NodeRange:
    """Asks for nodes that say which saves the entries of a conversation came with."""
    prefix = f"{FRAMEWORK}:entry/"
    return NodeRange(prefix, behind_prefix(prefix), limit, states=False)


def read_save(node: ExecutionNode) -> SavedRecord:
    """What a save holds.

    Raises:
        CorruptRowError: it is none that this version of pydantic-ai takes.
    """
    number, floor = save_number(node), node.metadata.get("floor")
    if type(floor) is not int:
        raise _corrupt(node, "its metadata")
    if node.metadata.get("kind") == "delete":
        return SavedRecord(node.id, number, floor, None)
    try:
        record = _RECORD.validate_python(node.output)
    except ValidationError as error:
        raise _corrupt(node, str(error)) from error
    return SavedRecord(node.id, number, floor, record)


def read_entries(found: RangedNode) -> list[ConversationEntry]:
    """The entries that came with a save.

    Raises:
        CorruptRowError: they are none that this version of pydantic-ai takes.
    """
    if found.node.metadata.get("kind") == "delete":
        return []
    try:
        return _ENTRIES.validate_python(found.state)
    except ValidationError as error:
        raise _corrupt(found.node, str(error)) from error


def _corrupt(node: ExecutionNode, why: str) -> CorruptRowError:
    return CorruptRowError(
        f"{node.id} is no save of a conversation that this version of pydantic-ai takes; another "
        f"program, or a newer version, has written it: {why}"
    )
