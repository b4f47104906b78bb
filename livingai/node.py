"""What an agent records: one :class:`ExecutionNode` per step, tool call, memory or branch."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from livingai import asked
from livingai.errors import CorruptRecordError, InvalidNodeError

#: Longest accepted ``execution_id``, ``id`` and ``parent_id``, in UTF-8 bytes.
MAX_ID_BYTES = 512


class NodeType(StrEnum):
    """What kind of work a node records."""

    #: A model call or any other pure reasoning step; safe to repeat.
    PROMPT = "prompt"
    #: A call that may have side effects; never repeated unless marked idempotent.
    TOOL = "tool"
    #: A read or write of the agent's memory; safe to repeat.
    MEMORY = "memory"
    #: A decision that splits the run; safe to repeat.
    BRANCH = "branch"


class Status(StrEnum):
    """How far a node got."""

    #: Known, not begun.
    PENDING = "pending"
    #: Begun; for a TOOL this is the recorded intent, so without a result it is in doubt.
    RUNNING = "running"
    #: Ended well; ``output`` is final.
    SUCCESS = "success"
    #: Ended with ``error``.
    FAILED = "failed"


class NodeField(IntEnum):
    """Where each field of a node is in its wire list (:meth:`ExecutionNode.to_wire`)."""

    EXECUTION_ID = 0
    ID = 1
    TYPE = 2
    STATUS = 3
    PARENT_ID = 4
    CREATED_AT = 5
    COMPLETED_AT = 6
    COST_TOKENS = 7
    LATENCY_MS = 8
    INPUT = 9
    OUTPUT = 10
    #: None, or a list of type, message, traceback and whether it may be retried.
    ERROR = 11
    METADATA = 12


#: Fields of a node section.
_FIELDS = len(NodeField)
#: Four times faster than calling the enum; ten thousand nodes are read at once.
_TYPES = {kind.value: kind for kind in NodeType}
_STATUSES = {status.value: status for status in Status}


@dataclass(slots=True)
class ErrorInfo:
    """Why a node failed: exception ``type``, ``message``, and an optional ``traceback`` text."""

    type: str
    message: str
    traceback: str | None = None
    retryable: bool = False

    @classmethod
    def from_exception(cls, error: BaseException, *, retryable: bool = False) -> ErrorInfo:
        """Describe ``error``, with its traceback as text."""
        import traceback as tb  # noqa: PLC0415 - only failing steps pay for it

        text: str | None
        try:
            text = "".join(tb.format_exception(error))
        except Exception:  # it, or what it hangs on, does not want to be shown
            text = None
        return cls(type(error).__qualname__, shown(error), text, retryable)


def shown(error: BaseException) -> str:
    """``str(error)``, or what can be said of an exception that cannot be shown."""
    try:
        return "".join((str(error),))  # a plain string, whatever its __str__ returns
    except Exception as failure:
        return f"<its str() raised {type(failure).__name__}>"


_id_prefix = os.urandom(6).hex()
_id_counter = itertools.count(1)


def new_id() -> str:
    """A unique id that sorts by creation time: milliseconds, then process, then counter (hex)."""
    return f"{time.time_ns() // 1_000_000:012x}-{_id_prefix}-{next(_id_counter):08x}"


def _fresh_prefix() -> None:
    global _id_prefix, _id_counter  # noqa: PLW0603 - a forked child must not repeat its parent's ids
    _id_prefix = os.urandom(6).hex()
    _id_counter = itertools.count(1)


os.register_at_fork(after_in_child=_fresh_prefix)


@dataclass(slots=True)
class ExecutionNode:
    """One recorded step of an agent's run.

    Saving a node again under the same ``id`` updates it (a TOOL is first saved RUNNING, then
    SUCCESS or FAILED). ``input``, ``output`` and ``metadata`` take whatever
    :func:`livingai.serial.pack` takes. Times are seconds since the Unix epoch, ``latency_ms`` is in
    milliseconds.
    """

    execution_id: str
    type: NodeType = NodeType.PROMPT
    status: Status = Status.PENDING
    input: Any = None
    output: Any = None
    error: ErrorInfo | None = None
    parent_id: str | None = None
    cost_tokens: int = 0
    latency_ms: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    created_at: float = field(default_factory=time.time)
    completed_at: float | None = None

    @property
    def idempotent(self) -> bool:
        """Whether repeating this node is safe; a TOOL is not, unless its metadata says so."""
        return bool(self.metadata.get("idempotent", self.type is not NodeType.TOOL))

    def to_wire(self) -> list[Any]:
        """The node as a flat list, in the field order of ``queue/FORMAT.md`` (node section)."""
        error = self.error
        return [
            self.execution_id,
            self.id,
            self.type.value,
            self.status.value,
            self.parent_id,
            self.created_at,
            self.completed_at,
            self.cost_tokens,
            self.latency_ms,
            self.input,
            self.output,
            None
            if error is None
            else [error.type, error.message, error.traceback, error.retryable],
            self.metadata,
        ]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> ExecutionNode:
        """Inverse of :meth:`to_wire`; fields that a newer version appended are ignored.

        Raises:
            CorruptRecordError: it is no node section, or one of a newer version.
        """
        try:
            (
                execution_id, node_id, kind, status, parent_id, created_at, completed_at,
                cost_tokens, latency_ms, value, output, error, metadata,
            ) = wire[:_FIELDS]  # fmt: skip
            if (
                type(execution_id) is str
                and type(node_id) is str
                and type(metadata) is dict
                and (error is None or type(error) is list)
                and (parent_id is None or type(parent_id) is str)
            ):
                return cls(
                    execution_id,
                    _TYPES[kind],
                    _STATUSES[status],
                    value,
                    output,
                    None if error is None else ErrorInfo(*error[:4]),
                    parent_id,
                    cost_tokens,
                    latency_ms,
                    metadata,
                    node_id,
                    created_at,
                    completed_at,
                )
        except (LookupError, TypeError, ValueError) as problem:
            raise CorruptRecordError(_no_section(wire)) from problem
        raise CorruptRecordError(_no_section(wire))


def _no_section(wire: Any) -> str:
    """Why this is no node section, as far as it can be found out."""
    if type(wire) is not list or len(wire) < _FIELDS:
        what = f"a list of {len(wire)} fields" if type(wire) is list else type(wire).__name__
        return f"what is stored as a node is {what}, not a list of {_FIELDS} fields or more"
    node_id, execution_id = (
        each[:600] if type(each) is str else asked.shown(each)
        for each in (wire[NodeField.ID], wire[NodeField.EXECUTION_ID])
    )
    name = f"node {node_id} of execution {execution_id}"
    for word, known in ((wire[NodeField.TYPE], _TYPES), (wire[NodeField.STATUS], _STATUSES)):
        if type(word) is str and word not in known:
            what = "type" if known is _TYPES else "status"
            return (
                f"{name} has the {what} {word[:80]!r}, this livingai knows {', '.join(known)}; a "
                "newer one may have written it: upgrade livingai to read it"
            )
    return f"{name} is damaged: a field of its section has another type than any node's"


def validate_node(node: ExecutionNode) -> None:
    """Raise :class:`InvalidNodeError` unless ``node`` can be stored by every backend."""
    if not isinstance(node, ExecutionNode):
        raise InvalidNodeError(
            f"save() takes an ExecutionNode, not {type(node).__name__}; build one with "
            "ExecutionNode(execution_id=..., type=NodeType.PROMPT)"
        )
    for name in ("execution_id", "id"):
        _check_id(getattr(node, name), name)
    if node.parent_id is not None:
        _check_id(node.parent_id, "parent_id")
    if not isinstance(node.type, NodeType) or not isinstance(node.status, Status):
        raise InvalidNodeError(
            f"ExecutionNode.type must be a NodeType and .status a Status, got {node.type!r} and "
            f"{node.status!r}"
        )
    if not isinstance(node.metadata, Mapping):
        raise InvalidNodeError("ExecutionNode.metadata must be a dict")
    if node.error is not None and not isinstance(node.error, ErrorInfo):
        raise InvalidNodeError(
            f"ExecutionNode.error must be an ErrorInfo, not {type(node.error).__name__}; use "
            "ErrorInfo.from_exception(error)"
        )


def _check_id(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidNodeError(f"ExecutionNode.{name} must be a non-empty string, got {value!r}")
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidNodeError(
                f"ExecutionNode.{name} {value!r} is no valid Unicode text; use another id"
            ) from error
    if size > MAX_ID_BYTES:
        raise InvalidNodeError(
            f"ExecutionNode.{name} is longer than {MAX_ID_BYTES} bytes; use a shorter id"
        )
