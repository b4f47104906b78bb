"""The slow packer: knows at each moment where in the value it is.

:func:`livingai.serial.pack` turns to it when the C packer fails or would get a type wrong. It
either writes the same format, or raises an error that says where and what to do.
"""

from __future__ import annotations

import dataclasses
import enum
import reprlib
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from typing import Any, Final

from msgpack import ExtType, Packer, Timestamp

from livingai.errors import StateEncodingError
from livingai.serial.scalars import MARK_OF, MARKED_PREFIX, SCALARS, scalar_to_ext

#: Containers inside each other; what msgpack's decoder can follow.
MAX_DEPTH: Final = 1024

_NATIVE: Final = frozenset({type(None), bool, float, str, bytes})
_PLAIN: Final = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    list,
    tuple,
    dict,
    set,
    frozenset,
)

# How a member is reached from its container; a step is such a word and a key or an index.
_INDEX, _VALUE, _KEY, _ELEMENT = "index", "value", "key", "element"
_Step = tuple[str, object]


def pack_carefully(value: object, name: str = "state", verb: str = "store") -> bytes:
    """As :func:`livingai.serial.pack`, about thirty times slower.

    Raises StateEncodingError with the path of the value that cannot be encoded.
    """
    packer = Packer(strict_types=True, autoreset=False, unicode_errors="surrogatepass")
    marked = False
    path: list[_Step] = []
    stack: list[Iterator[tuple[_Step, object]]] = [iter((((_VALUE, ""), value),))]
    while stack:
        for step, item in stack[-1]:
            path.append(step)
            try:
                members = _open(packer, item)
                if members is None:
                    _pack_scalar(packer, item)
            except MemoryError:
                raise
            except Exception as exc:  # a tzinfo may run any code
                raise StateEncodingError(
                    f"{_where(path, name)}: {_problem(item, exc, name, verb)}"
                ) from exc
            if members is None:
                path.pop()
                continue
            if len(stack) > MAX_DEPTH:
                raise StateEncodingError(
                    f"{_where(path, name)}: nested deeper than {MAX_DEPTH} levels, "
                    "or contains itself"
                )
            marked = marked or type(item) in MARK_OF
            stack.append(members)
            break
        else:
            stack.pop()
            if path:
                path.pop()
    packed: bytes = packer.bytes()
    return MARKED_PREFIX + packed if marked else packed


def _open(packer: Packer, item: Any) -> Iterator[tuple[_Step, object]] | None:
    """Write a container's header; its members, copied so that no other thread can change them.

    None if `item` is not a container.
    """
    kind = type(item)
    if kind is dict:
        pairs = list(item.items())
        packer.pack_map_header(len(pairs))
        return _keys_and_values(pairs)
    if kind is list:
        members = list(item)
        packer.pack_array_header(len(members))
    elif kind in MARK_OF:
        members = list(item)
        packer.pack_array_header(len(members) + 1)
        packer.pack(MARK_OF[kind])
    else:
        return None
    word = _INDEX if kind in (list, tuple) else _ELEMENT
    return (((word, index), member) for index, member in enumerate(members))


def _keys_and_values(pairs: list[tuple[object, object]]) -> Iterator[tuple[_Step, object]]:
    for key, value in pairs:
        yield (_KEY, key), key
        yield (_VALUE, key), value


def _pack_scalar(packer: Packer, item: object) -> None:
    kind = type(item)
    if kind in _NATIVE or (kind is int and -(2**63) <= item < 2**64):  # type: ignore[operator]
        packer.pack(item)
    else:
        packer.pack(scalar_to_ext(item))


# --- the message ---------------------------------------------------------------------------------


def _where(path: Sequence[_Step], name: str) -> str:
    """The path as Python would write it: ``state.messages[3].tool``."""
    steps = list(path[1:])
    shown = [_written(step) for step in steps]
    if len(shown) > 16:
        shown[8:-8] = [f" ...{len(shown) - 16} more... "]
    return name + "".join(shown)


def _written(step: _Step) -> str:
    word, key = step
    if word == _ELEMENT:
        return "{...}"
    if word == _KEY:
        return f".keys()[{reprlib.repr(key)}]"
    if word == _VALUE and type(key) is str and key.isidentifier():
        return f".{key}"
    return f"[{reprlib.repr(key)}]"


def _problem(item: object, exc: Exception, root: str, verb: str) -> str:
    kind = type(item)
    if kind in _NATIVE or kind in SCALARS:
        return f"cannot encode this {kind.__qualname__}: {exc}"
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"cannot encode {name}; {_advice(item, root, verb)}"


def _advice(item: object, root: str, verb: str) -> str:
    if isinstance(item, enum.Enum):
        return f"{verb} its .value"
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return f"{verb} dataclasses.asdict() of it"
    if hasattr(type(item), "model_dump"):
        return f"{verb} its .model_dump()"
    if isinstance(item, memoryview):
        return f"{verb} bytes() of it"
    if isinstance(item, (ExtType, Timestamp)):
        return "msgpack's own types would come back as others"
    for plain in _PLAIN:
        if isinstance(item, plain):
            return f"a subclass would come back as another type: {verb} {plain.__name__}() of it"
    if isinstance(item, Coroutine):
        return f"it was not awaited: {verb} what `await` gives"
    if isinstance(item, (Iterator, range)):
        return f"{verb} list() of it"
    if isinstance(item, AsyncIterator):
        return f"{verb} a list of what it gives"
    advice = f"{verb} plain values (dict, list, str, numbers, ...)"
    return f"{advice}, or encode the state to bytes" if root.endswith("state") else advice
