"""Recorded message runs as execution graphs.

A file has one JSON object a line (``.gz`` is read as such) with a list ``messages`` as model APIs
have them, and perhaps an ``id``. Message *k* of a run becomes node ``<execution>:<k>``:

===========  ========  ==========================================  ===============================
role         type      input                                       output
===========  ========  ==========================================  ===============================
system,user  MEMORY    None                                        the message
assistant    PROMPT    ``{"messages": k}``: how many it saw        the message
tool         TOOL      ``{"name", "arguments", "call_id"}``         the message's content
===========  ========  ==========================================  ===============================

The state saved with a node is the list of all messages so far. Each node's parent is the node
before it, so all later nodes descend from it. For the answer of a tool that is the message that
made the call or, if a message made several calls, the answer to the previous one;
``metadata["caller"]`` is the id of the message's node. A call without an answer at the end of a run
is a TOOL that is RUNNING: in doubt.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, ExecutionNotFoundError, RunFormatError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.runs.effects import ReadLatest, Save, Work, do, drive, drive_sync

Message = dict[str, Any]

_TYPES: Final = {"assistant": NodeType.PROMPT, "tool": NodeType.TOOL}
_MAX_LINE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run: its id, its messages, and the other fields of its line (source, reward, ...)."""

    execution_id: str
    messages: list[Message]
    about: dict[str, Any] = field(default_factory=dict)


def read_runs(path: str | os.PathLike[str], prefix: str = "") -> Iterator[RecordedRun]:
    """The runs of a file; one without an ``id`` is named after the file and its line.

    Raises:
        RunFormatError: the file cannot be read, or a line is not as expected; the message says
            which line and why.
    """
    name = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    number = 0
    try:
        for number, line in enumerate(_lines(path), start=1):
            if line.strip():
                where = f"{os.fspath(path)}, line {number}"
                yield _run(line, where, f"{prefix}{name}-{number}", prefix)
    except (OSError, EOFError, zlib.error) as error:
        raise RunFormatError(
            f"cannot read {os.fspath(path)} behind line {number}: {error}"
        ) from error
    if number == 0:
        raise RunFormatError(f"{os.fspath(path)} is empty: expected one JSON object per line")


def _lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    name = os.fspath(path)
    with gzip.open(name) if name.endswith(".gz") else open(name, "rb") as file:
        while line := file.readline(_MAX_LINE_BYTES):
            yield line


def _run(line: bytes, where: str, default_id: str, prefix: str) -> RecordedRun:
    try:
        parsed: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RunFormatError(f"{where} is not JSON: {error}") from error
    messages = parsed.get("messages") if isinstance(parsed, dict) else None
    if not isinstance(messages, list) or not messages:
        raise RunFormatError(
            f'{where} has no messages: expected {{"messages": [{{"role": ..., "content": ...}}]}}'
        )
    for number, message in enumerate(messages):
        wrong = _wrong(message)
        if wrong:
            raise RunFormatError(f"{where}, message {number}: {wrong}")
    about = {key: value for key, value in parsed.items() if key not in ("messages", "id")}
    named = parsed.get("id")
    return RecordedRun(default_id if named is None else f"{prefix}{named}", messages, about)


def _wrong(message: Any) -> str:
    """What is wrong with a message; empty if nothing is."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return "expected an object with a role"
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        return "tool_calls is no list"
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return "a tool call without function.name"
        if not isinstance(call.get("id"), str):
            return "a tool call without an id"
    return ""


def graph(
    run: RecordedRun, idempotent: Collection[str] = ()
) -> Iterator[tuple[ExecutionNode, list[Message]]]:
    """The nodes of a run, each with the state after it; ``idempotent`` names the tools that may be
    called again without harm."""
    waiting = _Calls()
    previous: str | None = None
    for number, message in enumerate(run.messages):
        node = _node(run, number, message, waiting, idempotent)
        node.parent_id = previous
        if number == 0:
            node.metadata.update(run.about)
        previous = node.id
        waiting.add(node.id, message)
        yield node, run.messages[: number + 1]
    for count, (caller, call) in enumerate(waiting.rest()):
        node = _tool_node(run, f"{caller}:{count}", call, idempotent)
        node.parent_id, node.status = previous, Status.RUNNING
        node.metadata["caller"] = caller
        yield node, run.messages


class _Calls:
    """Tool calls that wait for their answer, with the node that made them. An id may be used again
    once its call was answered, so it is unique only among the calls that wait."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[tuple[str, Message]]] = {}

    def add(self, node_id: str, message: Message) -> None:
        """The calls of a message."""
        for call in message.get("tool_calls") or ():
            self._by_id.setdefault(call["id"], []).append((node_id, call))

    def answered(self, call_id: Any) -> tuple[str | None, Message | None]:
        """The oldest call of that id, which has its answer now; (None, None) if there is none."""
        found = self._by_id.get(str(call_id))
        return found.pop(0) if found else (None, None)

    def rest(self) -> list[tuple[str, Message]]:
        """The calls without an answer."""
        return [each for found in self._by_id.values() for each in found]


def _node(
    run: RecordedRun, number: int, message: Message, waiting: _Calls, idempotent: Collection[str]
) -> ExecutionNode:
    role = message["role"]
    node_id = f"{run.execution_id}:{number}"
    if role == "tool":
        caller, call = waiting.answered(message.get("tool_call_id"))
        call = call or {"function": {"name": str(message.get("name") or "tool")}}
        node = _tool_node(run, node_id, call, idempotent)
        node.output, node.status = message.get("content"), Status.SUCCESS
        if caller is not None:
            node.metadata["caller"] = caller
        return node
    return ExecutionNode(
        run.execution_id, _TYPES.get(role, NodeType.MEMORY), Status.SUCCESS, id=node_id,
        input={"messages": number} if role == "assistant" else None, output=message,
        metadata={"name": role},
    )  # fmt: skip


def _tool_node(
    run: RecordedRun, node_id: str, call: Message, idempotent: Collection[str]
) -> ExecutionNode:
    function = call["function"]
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # a model may write anything; keep its text
            arguments = json.loads(arguments)
    metadata: dict[str, Any] = {"name": function["name"]}
    if function["name"] in idempotent:
        metadata["idempotent"] = True
    return ExecutionNode(
        run.execution_id, NodeType.TOOL, id=node_id, metadata=metadata,
        input={"name": function["name"], "arguments": arguments, "call_id": call.get("id")},
    )  # fmt: skip


async def import_run(
    engine: CheckpointEngine, run: RecordedRun, idempotent: Collection[str] = ()
) -> bool:
    """Save a run as an execution; returns False if the execution is complete already.

    If an earlier import was interrupted, its nodes are saved again, and then the rest.

    Raises:
        ConfigurationError: there is an execution of that id with other messages.
        LivingAIError: as :meth:`CheckpointEngine.save`; the nodes before the failed one are saved.
    """
    return await drive(engine, _import(run, idempotent))


def import_run_sync(
    engine: CheckpointEngine, run: RecordedRun, idempotent: Collection[str] = ()
) -> bool:
    """Twin of :func:`import_run`."""
    return drive_sync(engine, _import(run, idempotent))


def _import(run: RecordedRun, idempotent: Collection[str]) -> Work[bool]:
    with suppress(ExecutionNotFoundError):
        _, state = yield from do(ReadLatest(run.execution_id))
        if _complete(run, state):
            return False
    for node, state in graph(run, idempotent):
        yield from do(Save(node, None, state))
    return True


def _complete(run: RecordedRun, state: Any) -> bool:
    """Whether an execution's newest state is the whole run, rather than its beginning."""
    if not isinstance(state, list) or state != run.messages[: len(state)]:
        raise ConfigurationError(
            f"there is an execution {run.execution_id!r} that is not this run; import it with a "
            "prefix, or delete the other one"
        )
    return len(state) == len(run.messages)
