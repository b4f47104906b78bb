"""The entries of a thread's log: a checkpoint each, the writes of a task each, and marks.

A thread is one execution, whose log all its namespaces share, so checkpoints and writes are stored
in the order in which they were handed over. Their ids are those of
:mod:`livingai.adapters.langgraph.ids`.

An entry is never changed. Where the same checkpoint is put again, the entry that the store got last
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from livingai import codecs, serial
from livingai.adapters.langgraph.ids import FRAMEWORK, LONG_NAME, ThreadName, prefix
from livingai.adapters.names import is_shortened
from livingai.config import DEFAULT_MAX_STATE_BYTES
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode, NodeType, Status, new_id
from livingai.protocol.ranges import RangedNode

#: A value as the serializer gives it: the name of its format, and bytes.
Typed = tuple[str, bytes]

_FORMAT: Final = 1
#: Values from so many bytes on come first in a state, the largest at the front: where they grow at
#: their end, all before that is equal to the last state's.
_LARGE: Final = 4096


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """A checkpoint, its values serialized each on its own; ``checkpoint`` is the rest of it.
    ``parents`` are the checkpoints of outer namespaces that it belongs to, ``delta_channels`` those
    whose value has to be built from ancestors, ``run_id`` is the run that made it. ``takes_sends``:
    it is of a LangGraph that did not put tasks which were sent into the checkpoint: they are among
    the writes of its parent."""

    namespace: str
    checkpoint_id: str
    parent_id: str | None
    metadata: Typed
    checkpoint: Typed
    values: Mapping[str, Typed]
    parents: Mapping[str, str] = field(default_factory=dict)
    delta_channels: tuple[str, ...] = ()
    run_id: str | None = None
    takes_sends: bool = False

    @property
    def is_dropped(self) -> bool:
        """Whether its state was asked for, and is not there any more: retention removed it."""
        return not self.checkpoint[0]

    def node(self, thread: ThreadName) -> tuple[ExecutionNode, list[Any]]:
        """The node and the state to be saved."""
        start = prefix(thread.execution_id, "c", self.namespace, self.checkpoint_id)
        about: dict[str, Any] = {
            "framework": FRAMEWORK, "name": "checkpoint", "namespace": self.namespace,
            "checkpoint": self.checkpoint_id, "parent": self.parent_id,
        }  # fmt: skip
        if self.parents:
            about["parents"] = dict(self.parents)
        if self.delta_channels:
            about["delta"] = list(self.delta_channels)
        if self.run_id is not None:
            about["run_id"] = self.run_id
        if self.takes_sends:
            about["takes_sends"] = True
        node = _node(thread, start + new_id(), about)
        node.input = list(self.metadata)
        large = sorted(
            (item for item in self.values.items() if len(item[1][1]) >= _LARGE),
            key=lambda item: -len(item[1][1]),
        )
        small = [item for item in self.values.items() if len(item[1][1]) < _LARGE]
        values = [[channel, *typed] for channel, typed in large + small]
        return node, [_FORMAT, values, list(self.checkpoint)]

    @classmethod
    def read(cls, found: RangedNode) -> CheckpointEntry:
        """The checkpoint of an entry; without its values where the state was not asked for.

        Raises:
            CorruptRowError: it is none.
        """
        with _reading(found):
            about = found.node.metadata
            values: dict[str, Typed] = {}
            rest: Typed = ("", b"")
            if found.state is not None:
                version, items, checkpoint = found.state
                _check_format(version)
                rest = _typed(checkpoint)
                values = {_text(name): _typed(typed) for name, *typed in items}
            parent = about["parent"]
            return cls(
                _text(about["namespace"]), _text(about["checkpoint"]),
                None if parent is None else _text(parent), _typed(found.node.input), rest, values,
                {_text(key): _text(item) for key, item in about.get("parents", {}).items()},
                tuple(map(_text, about.get("delta", ()))), about.get("run_id"),
                bool(about.get("takes_sends")),
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskWrite:
    """One write of a task: its index, channel and value."""

    index: int
    channel: str
    value: Typed


@dataclass(frozen=True, slots=True)
class WritesEntry:
    """The writes of a task that follow from a checkpoint. ``replaces``: they replace earlier ones
    with the same index; else the first one with an index counts."""

    namespace: str
    checkpoint_id: str
    task_id: str
    task_path: str
    replaces: bool
    writes: tuple[TaskWrite, ...]

    def node(self, thread: ThreadName) -> ExecutionNode:
        """The node to be saved."""
        about = {
            "framework": FRAMEWORK, "name": "writes", "namespace": self.namespace,
            "checkpoint": self.checkpoint_id, "task": self.task_id, "path": self.task_path,
        }  # fmt: skip
        start = prefix(thread.execution_id, "w", self.namespace, self.checkpoint_id)
        node = _node(thread, start + new_id(), about)
        items = [[each.index, each.channel, *each.value] for each in self.writes]
        packed = serial.pack([_FORMAT, self.replaces, items])
        node.output = codecs.encode(packed).blob
        return node

    @classmethod
    def read(cls, found: RangedNode, max_bytes: int = DEFAULT_MAX_STATE_BYTES) -> WritesEntry:
        """The writes of an entry.

        Raises:
            CorruptRowError: it has none.
        """
        with _reading(found):
            about = found.node.metadata
            packed = codecs.decode(found.node.output, max_bytes=max_bytes)
            unpacked: Any = serial.unpack(packed)
            version, replaces, items = unpacked
            _check_format(version)
            writes = tuple(
                TaskWrite(int(index), _text(channel), _typed(typed))
                for index, channel, *typed in items
            )
            return cls(
                _text(about["namespace"]), _text(about["checkpoint"]), _text(about["task"]),
                _text(about["path"]), bool(replaces), writes,
            )  # fmt: skip


def place_of(found: RangedNode) -> tuple[str, str]:
    """The namespace and the id of the checkpoint that an entry is of, or follows from."""
    about = found.node.metadata
    return str(about.get("namespace", "")), str(about.get("checkpoint", ""))


def merge_writes(entries: Iterable[WritesEntry]) -> list[tuple[str, TaskWrite]]:
    """The writes that count, with their tasks, in the order in which live execution applies them:
    by task path, task, index. ``entries`` come in the order in which they were stored."""
    counting: dict[tuple[str, int], tuple[str, TaskWrite]] = {}
    for entry in entries:
        for write in entry.writes:
            key = (entry.task_id, write.index)
            if entry.replaces or key not in counting:
                counting[key] = (entry.task_path, write)
    ordered = sorted((path, task, index) for (task, index), (path, _) in counting.items())
    return [(task, counting[task, index][1]) for _, task, index in ordered]


def mark_node(
    thread: ThreadName, kind: str, content: dict[str, Any], unique: str | None = None
) -> ExecutionNode:
    """A mark with that content."""
    about = {"framework": FRAMEWORK, "name": "mark"}
    node = _node(thread, prefix(thread.execution_id, kind) + (unique or new_id()), about)
    node.output = content
    return node


def _node(thread: ThreadName, node_id: str, about: dict[str, Any]) -> ExecutionNode:
    if is_shortened(thread.execution_id):
        about[LONG_NAME] = thread.thread_id
    execution_id = thread.execution_id
    return ExecutionNode(execution_id, NodeType.MEMORY, Status.SUCCESS, id=node_id, metadata=about)


class _reading:
    """Inside the block an entry is taken apart: what makes no sense is a CorruptRowError."""

    def __init__(self, found: RangedNode) -> None:
        self._id = found.node.id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (TypeError, ValueError, LookupError, AttributeError)):
            raise CorruptRowError(
                f"the entry {self._id} is damaged, or another program wrote it: {error}"
            ) from error


def _check_format(version: object) -> None:
    if version != _FORMAT:
        raise ValueError(
            f"its format is {version!r:.20}, this livingai knows {_FORMAT}; upgrade livingai"
        )


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _typed(value: object) -> Typed:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise TypeError(f"{value!r:.40} is no serialized value")
    name, data = value
    if type(name) is not str or type(data) is not bytes:
        raise TypeError(f"{name!r:.40} and {type(data).__name__} are no serialized value")
    return name, data
