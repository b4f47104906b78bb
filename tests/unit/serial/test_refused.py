"""Values that cannot be encoded: the error names the place, the type and what to do."""

import enum
import functools
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgpack
import pytest

from livingai.errors import CorruptRecordError, StateEncodingError
from livingai.serial import pack, unpack
from tests.support.serialized import Foreign

# --- what cannot be encoded ----------------------------------------------------------------------


class _Colour(enum.Enum):
    RED = 1


class _Level(enum.IntEnum):
    HIGH = 1


@dataclass
class _Point:
    x: int


class _Text(str):
    __slots__ = ()


class _Model:
    def model_dump(self) -> dict[str, Any]:
        return {}


_Pair = namedtuple("_Pair", "a b")
REFUSED = [
    (object(), r"object; store plain values"),
    (_Colour.RED, r"_Colour; store its \.value"),
    (_Level.HIGH, r"_Level; store its \.value"),
    (_Point(1), r"_Point; store dataclasses\.asdict\(\)"),
    (_Model(), r"_Model; store its \.model_dump\(\)"),
    (_Text("x"), r"_Text; a subclass .* store str\(\)"),
    (_Pair(1, 2), r"_Pair; a subclass .* store tuple\(\)"),
    (OrderedDict(a=1), r"OrderedDict; a subclass .* store dict\(\)"),
    (memoryview(b"x"), r"memoryview; store bytes\(\)"),
    (msgpack.ExtType(1, b"x"), r"ExtType; msgpack's own types"),
    (msgpack.Timestamp(1), r"Timestamp; msgpack's own types"),
    (len, r"builtin_function_or_method; store plain values"),
    (int, r"type; store plain values"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_refusal_names_place_type_and_remedy(value: Any, message: str) -> None:
    places: list[tuple[Callable[[Any], Any], str]] = [
        (lambda v: v, r"state"),
        (lambda v: {"messages": [1, 2, 3, {"tool": v}]}, r"state\.messages\[3\]\.tool"),
        (lambda v: {"a b": {7: (0, v)}}, r"state\['a b'\]\[7\]\[1\]"),
        (lambda v: [bytearray(1), (2**70, [v])], r"state\[1\]\[1\]\[0\]"),
    ]
    for build, place in places:
        with pytest.raises(StateEncodingError, match=rf"^{place}: cannot encode .*{message}"):
            pack(build(value))


def test_refusal_names_keys_and_elements() -> None:
    with pytest.raises(StateEncodingError, match=r"^state\.d\.keys\(\)\[<_Colour.RED: 1>\]: "):
        pack({"d": {_Colour.RED: 1}})
    with pytest.raises(StateEncodingError, match=r"^state\.s\{\.\.\.\}: "):
        pack({"s": {_Colour.RED}})


def test_error_while_encoding_names_the_place() -> None:
    class Broken(Foreign):
        def utcoffset(self, moment: datetime | None) -> timedelta | None:
            raise LookupError("no such zone")

    with pytest.raises(StateEncodingError, match=r"^state\.at: .*datetime.*no such zone"):
        pack({"at": datetime(2024, 1, 1, tzinfo=Broken())})


def test_long_path_is_shortened() -> None:
    value: Any = object()
    for _ in range(200):
        value = [value]
    with pytest.raises(StateEncodingError, match=r"184 more") as caught:
        pack(value)
    assert len(str(caught.value)) < 200


# --- depth and cycles ----------------------------------------------------------------------------

WRAPPERS = {
    "list": lambda v: [v],
    "tuple": lambda v: (v,),
    "dict": lambda v: {"k": v},
    "dict and tuple": lambda v: {"k": (v,)},
    "bytearray beside": lambda v: [v, bytearray(b"x")],
    "surrogate beside": lambda v: [v, "\ud800"],
}


def _nested(wrap: Any, levels: int) -> Any:
    return functools.reduce(lambda value, _: wrap(value), range(levels), None)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_depth_survives_or_is_refused(wrap: Any) -> None:
    accepted = 0
    for levels in (1, 100, 250, 500, 511, 512, 1023, 1024, 1025, 1026):
        value = _nested(wrap, levels)
        try:
            packed = pack(value)
        except StateEncodingError:
            continue
        assert pack(unpack(packed)) == packed
        accepted = levels
    assert accepted >= 500
    for levels in (accepted * 2, 2000):
        with pytest.raises(StateEncodingError, match="nested deeper"):
            pack(_nested(wrap, levels))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_absurd_depth_is_refused(wrap: Any) -> None:
    value = _nested(wrap, 50_000)
    with pytest.raises(StateEncodingError, match="nested deeper"):
        pack(value)
    while value is not None:  # freed level by level: the interpreter would recurse
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]


def test_cycles_are_refused() -> None:
    knot: list[Any] = []
    knot += [knot, knot]  # a search by breadth would double at each level
    loop: dict[str, Any] = {"a": (1, [])}
    loop["a"][1].append(loop)
    mixed: list[Any] = [bytearray(b"x")]
    mixed += [mixed, mixed]
    for value in (knot, loop, mixed):
        with pytest.raises(StateEncodingError, match="contains itself"):
            pack(value)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01", b"\xc1\x91", b"\xdd\x00\x00\x00\x01"])
@pytest.mark.parametrize("levels", [1025, 100_000, 3_000_000])
def test_absurd_depth_of_bytes_is_refused(opening: bytes, levels: int) -> None:
    prefix, opening = opening[: opening[0] == 0xC1], opening[opening[0] == 0xC1 :]
    with pytest.raises(CorruptRecordError):
        unpack(prefix + opening * levels + b"\xc0")
