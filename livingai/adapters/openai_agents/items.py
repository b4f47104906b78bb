"""The items of a session as text and back, and which of them may not stand without another one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from livingai.errors import CorruptRowError, StateEncodingError

#: Which item answers which, by their types: an answer names the ``call_id`` of what it answers.
ANSWERS: Final = {
    "apply_patch_call_output": "apply_patch_call",
    "computer_call_output": "computer_call",
    "custom_tool_call_output": "custom_tool_call",
    "function_call_output": "function_call",
    "local_shell_call_output": "local_shell_call",
    "program_output": "program",
    "shell_call_output": "shell_call",
    "tool_search_output": "tool_search_call",
}
_APPROVAL: Final = "mcp_approval_request"


def encode(value: Any, what: str) -> str:
    """Plain values as JSON, in ASCII: every store keeps that as it is, NUL and lone surrogates too.

    Raises:
        StateEncodingError: it holds something else.
    """
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise StateEncodingError(
            f"{what} cannot be written as JSON: {error}. Use plain dicts, lists, strings, numbers, "
            "booleans and None"
        ) from error


def decode(text: Any, node_id: str) -> Any:
    """Inverse of :func:`encode`, for what the store holds with a node.

    Raises:
        CorruptRowError: that is no JSON.
    """
    try:
        if isinstance(text, str):
            return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(node_id, f"no JSON ({error})") from error
    raise _damaged(node_id, f"{type(text).__name__}, not text")


def decode_items(text: Any, node_id: str) -> list[Any]:
    """The items that were added together.

    Raises:
        CorruptRowError: the store holds something else.
    """
    items = decode(text, node_id)
    if not isinstance(items, list):
        raise _damaged(node_id, f"{type(items).__name__}, not a list")
    return items


def _damaged(node_id: str, what: str) -> CorruptRowError:
    return CorruptRowError(
        f"what is stored with {node_id!r} is {what}; restore it from a copy, or delete its "
        "execution"
    )


def without_orphans(items: Iterable[Any]) -> list[Any]:
    """The items without answers to calls that do not stand before them: a model API refuses a
    history with one. Calls without an answer stay: the SDK answers or drops them."""
    calls: set[tuple[str, str]] = set()
    kept = []
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str):
            kept.append(item)
            continue
        if kind in ANSWERS:
            call_id = item.get("call_id")
            if isinstance(call_id, str) and (ANSWERS[kind], call_id) not in calls:
                continue
        elif kind == "mcp_approval_response":
            if (_APPROVAL, item.get("approval_request_id")) not in calls:
                continue
        else:
            name = item.get("id" if kind == _APPROVAL else "call_id")
            if isinstance(name, str):
                calls.add((kind, name))
        kept.append(item)
    return kept


def answered_calls(items: Iterable[Any]) -> list[dict[str, Any]]:
    """The function calls among the items whose output is there, too."""
    calls: dict[str, dict[str, Any]] = {}
    answered = []
    for item in items:
        if not isinstance(item, dict):
            continue
        call_id = item.get("call_id")
        if not isinstance(call_id, str):
            continue
        if item.get("type") == "function_call":
            calls[call_id] = item
        elif item.get("type") == "function_call_output" and call_id in calls:
            answered.append(calls[call_id])
    return answered
