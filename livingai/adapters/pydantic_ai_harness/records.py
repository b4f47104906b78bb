"""What the step store keeps of a run: records as nodes, and which of them count.

A run is an execution, ``pydantic-ai:run/<run id>``. Its registration, events and snapshots are
entries that never change; what is left out because it was recorded twice is decided when they are
read, in the store's order, so everybody decides alike.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_ai_harness.step_persistence import (
    ContinuableSnapshot,
    RunRecord,
    StepEvent,
    ToolEffectRecord,
)

from livingai.adapters.names import execution_name
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.protocol.ranges import RangedNode

T = TypeVar("T")
FRAMEWORK: Final = "pydantic-ai"
RUN: Final[TypeAdapter[Any]] = TypeAdapter(RunRecord)
EVENT: Final[TypeAdapter[Any]] = TypeAdapter(StepEvent)
EFFECT: Final[TypeAdapter[Any]] = TypeAdapter(ToolEffectRecord)
SNAPSHOT: Final[TypeAdapter[Any]] = TypeAdapter(ContinuableSnapshot)


def run_execution(run_id: str) -> str:
    """The id of a run's execution."""
    return execution_name(FRAMEWORK, "run", run_id)


def entry_of(execution_id: str, kind: str, output: Any) -> ExecutionNode:
    """The node of an entry of that kind."""
    now = time.time()
    return ExecutionNode(
        execution_id, NodeType.MEMORY, Status.SUCCESS, output=output,
        id=f"{execution_id}/{kind}/{time.time_ns():016x}-{secrets.token_hex(6)}",
        metadata={"framework": FRAMEWORK, "kind": kind}, created_at=now, completed_at=now,
    )  # fmt: skip


def first_of_each_key(entries: Iterable[RangedNode]) -> list[RangedNode]:
    """Without those whose idempotency key has come before."""
    seen: set[object] = set()
    counting = []
    for entry in entries:
        key = entry.node.metadata.get("key")
        if key is None or key not in seen:
            counting.append(entry)
            seen.add(key)
    return counting


def in_sequence(entries: Iterable[RangedNode]) -> list[RangedNode]:
    """Without those that a run which was replayed has saved again: a key is ``<number>:...``, and
    the numbers of a run ascend."""
    highest = -1
    counting = []
    for entry in first_of_each_key(entries):
        number, colon, _ = str(entry.node.metadata.get("key")).partition(":")
        if colon and number.isascii() and number.isdigit():
            if int(number) < highest:
                continue
            highest = int(number)
        counting.append(entry)
    return counting


def record_of(kind: TypeAdapter[T], node: ExecutionNode) -> T:
    """What an entry holds.

    Raises:
        CorruptRowError: it is none of that kind.
    """
    try:
        return kind.validate_python(node.output)
    except ValidationError as error:
        raise corrupt(node, error) from error


def corrupt(node: ExecutionNode, error: ValidationError) -> CorruptRowError:
    """The error that an entry makes no sense."""
    return CorruptRowError(
        f"{node.id} holds no record that this version of pydantic-ai-harness takes; another "
        f"program, or a newer version, has written it: {error}"
    )
