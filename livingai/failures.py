"""Exceptions of recorded calls: taken down as plain values, and raised again on resume.

Nothing is pickled and no module is imported because a record names it. An exception comes back with
its own type if that is a builtin, or lies in a module that this process has loaded (the program
that raised it is running again, so it usually has); else as
:class:`~livingai.errors.RecordedError`. Constructors of such types are not called: the exception
gets its ``args`` and attributes as they were.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any, Final

from livingai import serial
from livingai.errors import (
    ConfigurationError,
    DirectoryError,
    InvalidNodeError,
    JournalClosedError,
    JournalError,
    LivingAIError,
    RecordedError,
    RunError,
    ServiceError,
    StateEncodingError,
    StoreError,
)
from livingai.node import ErrorInfo, ExecutionNode, shown

#: Key of a failed node's metadata: module, args and attributes of its exception.
RAISED: Final = "raised"

_LONGEST_CHARS: Final = 8192

#: The recorder's own trouble, not an outcome of the program's work: goes up and is not recorded as
#: the failure of the call that it passes through, else a resumed run would be served it.
_OWN: Final = (
    RunError, StoreError, ServiceError, JournalError, JournalClosedError, DirectoryError,
    ConfigurationError, InvalidNodeError,
)  # fmt: skip


def is_own(error: BaseException) -> bool:
    """Whether ``error`` is about the recording, not about what is recorded."""
    return isinstance(error, _OWN)


def describe(error: Exception, *, retryable: bool = False) -> tuple[ErrorInfo, dict[str, Any]]:
    """``error`` for a node: its ``error`` field, and what :func:`rebuild` needs besides."""
    return ErrorInfo.from_exception(error, retryable=retryable), _raised(error)


def _raised(error: BaseException) -> dict[str, Any]:
    raised: dict[str, Any] = {"module": type(error).__module__}
    if isinstance(error, ExceptionGroup):
        raised["args"] = [error.message]
        raised["exceptions"] = [
            {"type": type(inner).__qualname__, "message": shown(inner), **_raised(inner)}
            for inner in error.exceptions
        ]
    elif error.args and _encodable(list(error.args)):
        raised["args"] = list(error.args)
    attributes = dict(getattr(error, "__dict__", None) or {})
    # One by one: an error of a web client holds the response, which cannot be kept, and the status.
    kept = {name: each for name, each in attributes.items() if _encodable({name: each})}
    if kept:
        raised["attributes"] = kept
    return raised


def _encodable(value: Any) -> bool:
    try:
        serial.pack(value)
    except StateEncodingError:
        return False
    return True


def shorten(node: ExecutionNode) -> None:
    """Cut the error of a failed node down: it is too large to be recorded whole."""
    info = node.error
    assert info is not None
    info.message = _cut(info.message)
    info.traceback = None if info.traceback is None else _cut(info.traceback)
    module = node.metadata[RAISED].get("module", "builtins")
    node.metadata[RAISED] = {"module": module, "args": [info.message]}


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_CHARS:
        return text
    return f"{text[:_LONGEST_CHARS]}... ({len(text)} characters in all)"


def rebuild(node: ExecutionNode) -> Exception:
    """The exception that a failed node recorded."""
    info = node.error
    if info is None:
        return RecordedError(f"{node.id} is recorded as failed, without an error")
    raised = node.metadata.get(RAISED)
    raised = raised if isinstance(raised, dict) else {}
    error = _rebuilt(info.type, info.message, raised)
    error.add_note(f"recorded as the outcome of {node.metadata.get('name', node.id)!r}; not raised "
                   "by a call in this process")  # fmt: skip
    return error


def _rebuilt(type_name: str, message: str, raised: dict[str, Any]) -> Exception:
    cls = _exception_type(raised.get("module", "builtins"), type_name)
    error: Exception | None = None
    args = tuple(raised.get("args", ()))
    inner = raised.get("exceptions")
    if inner and cls is not None and issubclass(cls, ExceptionGroup):
        args = (*args, [_rebuilt(each["type"], each["message"], each) for each in inner])
    if cls is not None and ("args" in raised or not message):
        error = _revive(cls, args, raised.get("attributes") or {})
    return error or RecordedError(f"{type_name}: {message}", type_name)


def _exception_type(module: str, qualified_name: str) -> type[Exception] | None:
    found: Any = builtins if module == "builtins" else sys.modules.get(module)
    for name in qualified_name.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _revive(
    cls: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any]
) -> Exception | None:
    try:
        if cls.__module__ == "builtins" or issubclass(cls, LivingAIError):
            error = cls(*args)
        elif issubclass(cls, ExceptionGroup):
            error = cls.__new__(cls, *args)
        else:
            error = cls.__new__(cls, *args)
            error.args = args
        if str in map(type, attributes):
            getattr(error, "__dict__", {}).update(attributes)
    except Exception:  # an unusual type; RecordedError says the same in words
        return None
    return error
