"""Errors on their way to another process: ``[class, text, family]``.

The receiver may be of an earlier livingai, which has no class of that name: *family* are the names
of the classes above it, nearest first, and the first one that the receiver has is raised. A process
that cannot read a family (its greeting names no revision, see :mod:`livingai.protocol.frames`) is
sent ``[class, text]`` with a class that it has.
"""

from __future__ import annotations

from typing import Any, Final

from livingai import errors
from livingai.errors import LivingAIError, ServiceError

#: The first revision whose errors have families.
_FAMILIES: Final = 1
#: All that processes without families know. Never added to: a class that is added later is sent to
#: them as the nearest one of these.
_FIRST: Final = frozenset({
    "LivingAIError", "PlatformError", "ConfigurationError", "InvalidNodeError",
    "StateEncodingError", "StateTooLargeError", "DirectoryError", "DirectoryPermissionError",
    "DirectoryMismatchError", "FormatVersionError", "OddFileError", "JournalError",
    "DiskFullError", "JournalFullError", "JournalClosedError", "CorruptRecordError",
    "NotFoundError", "ExecutionNotFoundError", "NodeNotFoundError", "ServiceError",
    "ServiceUnavailableError", "ServiceStartError", "VersionMismatchError",
    "ServiceRunningError", "NotTheOwnerError", "FlushTimeoutError", "OutcomeTimeoutError",
    "OutcomeUnknownError", "StoreError", "CorruptBlobError", "MissingBaseError",
    "StoreUnavailableError", "StoreMismatchError", "RecordsLeftError", "StoreFormatError",
    "CopyConflictError", "StoreAuthenticationError", "StoreMissingError", "RecordRefusedError",
    "FencedError", "RunError", "DivergenceError", "NotAwaitedError", "InDoubtError",
    "ResultEncodingError", "RecordedError", "ReplayError", "StillBeingWrittenError",
    "ConsentRequiredError", "NotRecordedError", "FunctionMissingError", "ReplayDivergedError",
    "RunFormatError",
})  # fmt: skip


def error_parts(error: BaseException, revision: int) -> list[Any]:
    """``error`` for a process that has greeted with this revision (0: with none)."""
    if not isinstance(error, LivingAIError):
        return _parts(["ServiceError"], f"{type(error).__name__}: {error}", revision)
    family = [cls.__name__ for cls in type(error).__mro__ if _is_ours(cls)]
    if revision < _FAMILIES:
        family = [name for name in family if name in _FIRST]
    return _parts(family or ["ServiceError"], str(error), revision)


def _parts(family: list[str], text: str, revision: int) -> list[Any]:
    name, *above = family
    return [name, text, above] if revision >= _FAMILIES else [name, text]


def _is_ours(cls: type) -> bool:
    """Whether it is one that others may have, too: no store's own, and not the root of all."""
    return cls is not LivingAIError and getattr(errors, cls.__name__, None) is cls


def error_from_parts(parts: Any) -> LivingAIError:
    """The error that :func:`error_parts` described, as the nearest class that is known here. Never
    anything but a LivingAIError, whatever was sent."""
    if not isinstance(parts, list | tuple) or len(parts) < 2:
        return ServiceError(f"an error that makes no sense: {parts!r:.200}")
    name, text, *more = parts
    above = more[0] if more and isinstance(more[0], list | tuple) else []
    for each in (name, *above):
        cls = getattr(errors, each, None) if isinstance(each, str) else None
        if isinstance(cls, type) and issubclass(cls, LivingAIError):
            return cls(str(text))
    return ServiceError(str(text))
