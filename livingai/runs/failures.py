"""Exceptions of recorded calls: taken down as plain values, and raised again on resume.

What a program's ``except`` can see comes back: the type, ``str()`` and ``repr()``, arguments and
attributes, cause and context, notes, the members of a group. Nothing is pickled, no module is
imported because a record names it, and no constructor of the program's is called with what a record
holds. The parts: :mod:`~livingai.runs.exceptions.record` takes down,
:mod:`~livingai.runs.exceptions.rebuild` makes again, :mod:`~livingai.runs.exceptions.types` finds
the class, :mod:`~livingai.runs.exceptions.hooks` is for what needs help. ``docs/RECOVERY.md`` says
what does not come back.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from livingai.errors import (
    ConfigurationError,
    DirectoryError,
    InvalidNodeError,
    JournalError,
    RecordedError,
    RunError,
    ServiceError,
    StoreError,
)
from livingai.node import ErrorInfo, ExecutionNode
from livingai.runs.exceptions.rebuild import rebuilt
from livingai.runs.exceptions.record import CONTEXT, take_down
from livingai.runs.exceptions.types import name_of
from livingai.runs.exceptions.values import cut

#: Key of a failed node's metadata: what :mod:`~livingai.runs.exceptions.record` has of its
#: exception.
RAISED: Final = "raised"

_LONGEST_CHARS: Final = 8192
_LONGEST_TRACEBACK: Final = 100_000

#: Errors of the recording, not outcomes of the program's work. They are not recorded as the failure
#: of the calls that they are raised through; else a resumed run would be served them.
_OWN: Final = (
    RunError, StoreError, ServiceError, JournalError, DirectoryError,
    ConfigurationError, InvalidNodeError,
)  # fmt: skip


def is_own(error: BaseException) -> bool:
    """Whether ``error`` is about the recording, not about what is recorded."""
    return issubclass(type(error), _OWN)


def describe(error: Exception, *, retryable: bool = False) -> tuple[ErrorInfo, dict[str, Any]]:
    """``error`` for a node: its ``error`` field, and what :func:`rebuild` needs besides. Never
    fails."""
    try:
        return _described(error, retryable)
    except Exception as failure:  # looking at it, or at its class, raises
        module, name = name_of(type(error))
        text = f"<looking at it raised {type(failure).__name__}>"
        return ErrorInfo(name, text, None, retryable), {"module": module, "state": {}}


def _described(error: Exception, retryable: bool) -> tuple[ErrorInfo, dict[str, Any]]:
    info = ErrorInfo.from_exception(error, retryable=retryable)
    if info.traceback is not None and len(info.traceback) > _LONGEST_TRACEBACK:
        half = _LONGEST_TRACEBACK // 2
        info.traceback = f"{info.traceback[:half]}\n...\n{info.traceback[-half:]}"
    return info, take_down(error)


def shorten(node: ExecutionNode) -> None:
    """Cut the error of a failed node down: it is too large to be recorded whole."""
    info = node.error
    assert info is not None
    info.message = cut(info.message, _LONGEST_CHARS)
    info.traceback = None if info.traceback is None else cut(info.traceback, _LONGEST_CHARS)
    whole = node.metadata[RAISED]
    short: dict[str, Any] = {"module": whole.get("module", "builtins"), "args": [info.message]}
    if "bases" in whole:
        short["bases"] = whole["bases"]
    node.metadata[RAISED] = short


def rebuild(node: ExecutionNode) -> Exception:
    """The exception that a failed node recorded."""
    info = node.error
    if info is None:
        return RecordedError(f"{node.id} is recorded as failed, but its error is not recorded")
    raised = node.metadata.get(RAISED)
    return rebuilt(info.type, info.message, raised if isinstance(raised, dict) else {})


def raise_again(error: BaseException) -> NoReturn:
    """Raise with the context that the exception has: what is handled around this call is no part
    of what happened in it."""
    context = CONTEXT.__get__(error)
    try:
        raise error
    finally:
        CONTEXT.__set__(error, context)  # its class may forbid that it is changed
