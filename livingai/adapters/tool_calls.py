"""What ledgers of tool calls have in common: which call it is, and who is making it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from typing import Final

import psutil
import xxhash

from livingai.errors import InDoubtError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.runs.life import is_life

#: A process's start and the time of day are read from two clocks (s).
_CLOCK_S: Final = 1.0


def canonical(arguments: str) -> str:
    """Arguments as one text for all ways to write the same JSON."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return arguments  # a model may write anything


def call_digest(tool: str, arguments: str) -> str:
    """The same text for the same tool and arguments, and for no others."""
    text = f"{tool}\0{canonical(arguments)}"
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))


def check_not_being_made(nodes: Iterable[ExecutionNode]) -> None:
    """Look at the record of a call, which is a run of its own, before it is made (again).

    Raises:
        InDoubtError: a living process of this machine is in the midst of it.
    """
    nodes = list(nodes)
    calling = [node for node in nodes if node.type is NodeType.TOOL and _is_open(node)]
    makers = [node for node in nodes if is_life(node) and _is_open(node) and _is_alive(node)]
    if calling and makers:
        raise InDoubtError(
            f"the tool {calling[0].metadata.get('name')!r} is being called by process "
            f"{makers[-1].metadata['pid']}, which lives: wait for its end",
            (calling[0].id,),
        )


def _is_open(node: ExecutionNode) -> bool:
    return node.status is Status.RUNNING


def _is_alive(life: ExecutionNode) -> bool:
    """Whether the process that a life was lived by is alive on this machine."""
    if life.metadata.get("host") != socket.gethostname():
        return False  # nobody here can tell
    try:
        began = psutil.Process(int(life.metadata["pid"])).create_time()
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False
    return began <= life.created_at + _CLOCK_S  # else another process has got its number
