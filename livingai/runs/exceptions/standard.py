"""How objects that exceptions of the standard library hold are recorded, and what is shared with
:mod:`~livingai.runs.exceptions.clients`.

Objects are made again with the constructors that are named here, and only if their module is
loaded.
"""

from __future__ import annotations

import collections
import fractions
import io
import pathlib
import re
import sys
import types
from collections.abc import Iterable
from typing import Any, Final

from livingai.runs.exceptions.body import body_of
from livingai.runs.exceptions.hooks import Hook
from livingai.runs.exceptions.types import Name
from livingai.runs.exceptions.values import Adapter, Redacted

_SECRET: Final = re.compile(
    "auth|cookie|key|token|secret|session|password|signature", re.IGNORECASE
)
#: Headers with names like these that hold no secret: rate limits, and how to authenticate.
_OPEN: Final = re.compile("ratelimit|rate-limit|authenticate$", re.IGNORECASE)


def loaded(module: str) -> Any:
    """A module that the program has imported. Raises LookupError if it has not."""
    found = sys.modules.get(module)
    if found is None:
        raise LookupError(f"{module} is not imported")
    return found


def open_headers(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers without secrets."""
    every = [("".join((key,)), "".join((value,))) for key, value in pairs]
    kept = [each for each in every if _OPEN.search(each[0]) or not _SECRET.search(each[0])]
    return kept if len(kept) == len(every) else Redacted(kept)


def _message(module: str, name: str) -> Adapter:
    def up(held: list[Any]) -> Any:
        message = getattr(loaded(module), name)()
        for key, value in held:
            message[key] = value
        return message

    return Adapter(lambda message: open_headers(message.items()), up)


_TAR_FIELDS: Final = (
    "name", "size", "mtime", "mode", "type", "linkname", "uid", "gid", "uname", "gname",
    "pax_headers",
)  # fmt: skip


def _tar_info_up(held: list[Any]) -> Any:
    info = loaded("tarfile").TarInfo()
    for name, value in zip(_TAR_FIELDS, held, strict=True):
        setattr(info, name, value)
    return info


def _path(cls: type[pathlib.PurePath]) -> tuple[Name, Adapter]:
    return (cls.__module__, cls.__qualname__), Adapter(str, cls)


STANDARD: Final[dict[Name, Adapter]] = {
    ("builtins", "range"): Adapter(lambda r: [r.start, r.stop, r.step], lambda held: range(*held)),
    ("builtins", "slice"): Adapter(lambda s: [s.start, s.stop, s.step], lambda held: slice(*held)),
    ("builtins", "ellipsis"): Adapter(lambda _: None, lambda _: ...),
    ("builtins", "memoryview"): Adapter(bytes, memoryview),
    ("builtins", "mappingproxy"): Adapter(dict, types.MappingProxyType),
    ("collections", "deque"): Adapter(list, collections.deque),
    ("fractions", "Fraction"): Adapter(
        lambda f: [f.numerator, f.denominator], lambda held: fractions.Fraction(*held)
    ),
    ("_io", "BytesIO"): Adapter(body_of, io.BytesIO),
    ("_io", "StringIO"): Adapter(lambda file: file.getvalue(), io.StringIO),
    ("tarfile", "TarInfo"): Adapter(
        lambda info: [getattr(info, name) for name in _TAR_FIELDS], _tar_info_up
    ),
    ("http.client", "HTTPMessage"): _message("http.client", "HTTPMessage"),
    ("email.message", "Message"): _message("email.message", "Message"),
    **dict(map(_path, (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath))),
}  # fmt: skip


def _http_error_down(error: Any) -> list[Any]:
    headers = error.hdrs if hasattr(error.hdrs, "items") else None
    return [error.filename, error.code, error.msg, headers, body_of(error.fp)]


def _http_error_up(held: list[Any]) -> BaseException:
    url, code, message, headers, body = held
    error: BaseException = loaded("urllib.error").HTTPError(
        url, code, message, headers, io.BytesIO(body or b"")
    )
    return error


STANDARD_HOOKS: Final[dict[Name, Hook]] = {
    ("urllib.error", "HTTPError"): Hook(_http_error_down, _http_error_up),
}
