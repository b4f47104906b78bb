"""LangGraph's values as they are stored: taken apart and put together without being understood.

A saver's own serializer makes objects of the application's classes, and where it cannot import one,
it gives the object's bare fields instead and says so in a log. An import must not lose the type in
that way, nor run the application's code. So here an object stays the extension type that it is in
msgpack, tag and bytes, and comes out again as it went in.

Savers of the first releases wrote JSON. There the framework's own objects (messages and the like)
are made, and stored as msgpack; an object of the application cannot be moved.
"""

from __future__ import annotations

import json
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde import _msgpack as allowed
from langgraph.checkpoint.serde.jsonplus import EXT_METHOD_SINGLE_ARG, JsonPlusSerializer

from livingai.errors import UnreadableValueError

#: Extension types whose content begins with the module and the name of a class.
_NAMED: Final = range(6)
_READ: Final = ("null", "bytes", "bytearray", "json", "msgpack")


class VerbatimSerializer:
    """A serializer for savers that are read from and written to by an import.

    Args:
        strict: raise for a type that ``LANGGRAPH_STRICT_MSGPACK`` would not make.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._inner = JsonPlusSerializer(__unpack_ext_hook__=self._keep)
        #: Types that were met and that are not among those that LangGraph knows to be safe.
        self.types: set[str] = set()

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        """The format's name, and bytes."""
        typed: tuple[str, bytes] = self._inner.dumps_typed(value)
        return typed

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value, objects in it as extension types.

        Raises:
            UnreadableValueError: it is in a format that cannot be read without the application
                (pickled, encrypted), damaged, or of a type that strict deserialization refuses.
        """
        format_name, content = data
        if format_name not in _READ:
            raise UnreadableValueError(
                f"it was stored as {format_name!r:.40}, which only a program with the serializer "
                "of the source can read"
            )
        known = len(self.types)
        if format_name == "json":
            _refuse_foreign_objects(content)
        try:
            value = self._inner.loads_typed((format_name, content))
            again = self.dumps_typed(value) if format_name == "msgpack" else None
        except (ValueError, TypeError) as error:
            raise UnreadableValueError(f"it is damaged: {error}") from error
        if again is not None and again[1] != content and again[0] == "msgpack":
            raise UnreadableValueError(
                "it does not come out of msgpack as it went in, so another program wrote it"
            )
        if self._strict and len(self.types) > known:
            raise UnreadableValueError(
                f"it has {', '.join(sorted(self.types))}, which strict deserialization "
                "(--strict, LANGGRAPH_STRICT_MSGPACK) does not make; import without it, and name "
                "the types in allowed_msgpack_modules of the program's serializer"
            )
        return value

    def _keep(self, code: int, content: bytes) -> Any:
        inner = ormsgpack.unpackb(content, ext_hook=self._keep, option=ormsgpack.OPT_NON_STR_KEYS)
        if code in _NAMED:
            module, name = inner[:2]
            if code == EXT_METHOD_SINGLE_ARG:
                safe = (module, name, inner[3]) in allowed.SAFE_MSGPACK_METHODS
            else:
                safe = (module, name) in allowed.SAFE_MSGPACK_TYPES
            if not safe:
                self.types.add(f"{module}.{name}")
        return ormsgpack.Ext(code, content)


def _refuse_foreign_objects(text: bytes) -> None:
    """Raises UnreadableValueError if JSON has an object that is not the framework's own."""

    def look(value: dict[str, Any]) -> None:
        if value.get("lc") == 2 and value.get("type") == "constructor":
            *module, name = map(str, value.get("id") or [""])
            if (".".join(module), name) not in allowed.SAFE_MSGPACK_TYPES:
                raise UnreadableValueError(
                    f"it has an object of {'.'.join([*module, name])} in the JSON of an early "
                    "saver; have the program save the thread once more with a saver of today"
                )

    try:
        json.loads(text, object_hook=look)
    except ValueError as error:
        if isinstance(error, UnreadableValueError):
            raise
        raise UnreadableValueError(f"it is damaged: {error}") from error
