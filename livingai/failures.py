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
from livingai.node import ErrorInfo, ExecutionNode

#: Key of a failed node's metadata: module, args and attributes of its exception.
RAISED: Final = "raised"

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
    raised: dict[str, Any] = {"module": type(error).__module__}
    _keep(raised, "args", list(error.args))
    _keep(raised, "attributes", dict(getattr(error, "__dict__", None) or {}))
    return ErrorInfo.from_exception(error, retryable=retryable), raised


def _keep(raised: dict[str, Any], key: str, value: Any) -> None:
    try:
        serial.pack(value)
    except StateEncodingError:
        return
    if value:
        raised[key] = value


def rebuild(node: ExecutionNode) -> Exception:
    """The exception that a failed node recorded."""
    info = node.error
    if info is None:
        return RecordedError(f"{node.id} is recorded as failed, without an error")
    raised = node.metadata.get(RAISED)
    raised = raised if isinstance(raised, dict) else {}
    cls = _exception_type(raised.get("module", "builtins"), info.type)
    error: Exception | None = None
    if cls is not None and ("args" in raised or not info.message):
        error = _revive(cls, tuple(raised.get("args", ())), raised.get("attributes") or {})
    if error is None:
        error = RecordedError(f"{info.type}: {info.message}", info.type)
    error.add_note(f"recorded as the outcome of {node.metadata.get('name', node.id)!r}; not raised "
                   "by a call in this process")  # fmt: skip
    return error


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
        else:
            error = cls.__new__(cls, *args)
            error.args = args
        if str in map(type, attributes):
            getattr(error, "__dict__", {}).update(attributes)
    except Exception:  # an unusual type; RecordedError says the same in words
        return None
    return error
