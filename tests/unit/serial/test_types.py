"""What is unpacked has the type and the value of what was packed; the bytes stay the same."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from livingai.serial import pack, unpack
from livingai.serial.careful import pack_carefully
from tests.support.serialized import BERLIN, assert_survives, shown

VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63,
    2**64 - 1,
    2**64,
    -(2**63),
    -(2**63) - 1,
    10**400,
    -(10**400),
    0.0,
    -0.0,
    5e-324,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    "text ü 漢 🐍",
    "\ud800 lone \udfff",
    b"",
    b"\x00\xff",
    bytearray(b""),
    bytearray(b"abc"),
    [],
    (),
    {},
    set(),
    frozenset(),
    [1, [2, (3, [4])]],
    (1, (2, [3], {4})),
    {1, "a", (2, 3), frozenset({4})},
    frozenset({frozenset({frozenset()})}),
    {"a": 1, 2: "b", None: 0, 1.5: 1, b"k": 2, (1, ("x",)): 3, frozenset({1}): 4, True + 5: 5},
    {date(2024, 1, 1): 1, UUID(int=7): 2, Decimal("1.10"): 3, 2**70: 4, 1j: 5},
    complex(-0.0, float("inf")),
    Decimal("1.10"),
    Decimal("-0"),
    Decimal("NaN"),
    Decimal("sNaN123"),
    Decimal("-Infinity"),
    Decimal("1E+999999"),
    UUID("12345678-1234-5678-1234-567812345678"),
    date.min,
    date.max,
    time(),
    time(23, 59, 59, 999999, fold=1),
    time(1, 2, tzinfo=timezone(timedelta(hours=-3, seconds=1, microseconds=7))),
    time(1, 2, tzinfo=BERLIN),
    datetime.min,
    datetime.max,
    datetime(2024, 10, 27, 2, 30, fold=1),
    datetime(2024, 10, 27, 2, 30, fold=0, tzinfo=BERLIN),
    datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "MEZ ü")),
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "Zulu")),
    timedelta.min,
    timedelta.max,
    timedelta(microseconds=-1),
]


# A set's repr is another one in each process, and who shares the tests out compares their names.
@pytest.mark.parametrize(
    "value", VALUES, ids=lambda each: "set" if isinstance(each, set) else repr(each)[:40]
)
def test_value_survives_with_its_type(value: Any) -> None:
    assert_survives(value)
    assert_survives([value, {"k": value}, (value,)])
    assert shown(unpack(memoryview(bytearray(pack(value))))) == shown(value)


@pytest.mark.parametrize(
    "value", VALUES, ids=lambda each: "set" if isinstance(each, set) else repr(each)[:40]
)
def test_both_packers_write_the_same(value: Any) -> None:
    """A bytearray beside it has the slow one pack it all."""
    assert_survives([bytearray(b"x"), value])
    assert pack_carefully(value) == pack(value)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("value", [value for value in VALUES if _hashable(value)])
def test_hashable_value_survives_as_a_key(value: Any) -> None:
    assert_survives({value: 1})
    assert_survives({(value, 1): 1})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.complex_numbers(),
    st.decimals(),
    st.uuids(),
    st.dates(),
    st.times(),
    st.times(timezones=st.timezones()),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.datetimes(
        min_value=datetime(2, 1, 1),
        max_value=datetime(9998, 1, 1),
        timezones=st.builds(
            timezone,
            st.timedeltas(timedelta(hours=-23), timedelta(hours=23)),
        ),
    ),
    st.timedeltas(),
)
# Two keys that are NaN are different keys, yet look the same: no keys that are not equal to
# themselves. Some Decimals cannot even be hashed.
KEYS = st.recursive(
    SCALARS.filter(lambda v: not isinstance(v, (Decimal, complex)) and repr(v) != "nan"),
    lambda keys: st.one_of(st.lists(keys, max_size=3).map(tuple), st.frozensets(keys, max_size=3)),
    max_leaves=4,
)
STATES = st.recursive(
    SCALARS | st.binary().map(bytearray),
    lambda values: st.one_of(
        st.lists(values),
        st.lists(values).map(tuple),
        st.dictionaries(KEYS, values),
        st.sets(KEYS),
        st.frozensets(KEYS),
    ),
    max_leaves=20,
)


@given(STATES)
@example([bytearray(b"x"), "\ud800", (2**70,)])
def test_any_state_survives(value: Any) -> None:
    assert_survives(value)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


@given(JSON_LIKE)
def test_plain_values_are_plain_msgpack(value: Any) -> None:
    assert pack(value) == msgpack.packb(value)


def test_timestamps_of_foreign_msgpack_become_utc_datetimes() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert unpack(msgpack.packb([moment], datetime=True)) == [moment]


# The on-disk format: bytes that must mean this for ever.
GOLDEN: list[tuple[Any, str]] = [
    (2**64, "c70901010000000000000000"),
    (-(2**63) - 1, "c70901ff7fffffffffffffff"),
    (bytearray(b"ab"), "d5026162"),
    (1 + 2j, "d8033ff00000000000004000000000000000"),
    (Decimal("-1.50"), "c705042d312e3530"),
    (UUID(int=1), "d80500000000000000000000000000000001"),
    (date(1, 1, 2), "d60600000002"),
    (time(1, 2, 3, 4), "d7070102030000000004"),
    (
        datetime(1, 1, 1, 1, 2, 3, 4, timezone(timedelta(seconds=1)), fold=1),
        "c715080000000101020301000000040100000000000f4240",
    ),
    (
        datetime(2024, 1, 1, tzinfo=BERLIN),
        "c72208000b464600000000000000000200000000d693a400" + b"Europe/Berlin".hex(),
    ),
    (timedelta(-1, 2, 3), "c70c09ffffffff0000000200000003"),
    ((1,), "c192c7001001"),
    ({1}, "c192c7001101"),
    (frozenset(), "c191c70012"),
    ([{(1,): "x"}], "c1918192c7001001a178"),
]


@pytest.mark.parametrize(("value", "written"), GOLDEN, ids=lambda part: str(part)[:30])
def test_format_is_stable(value: Any, written: str) -> None:
    assert pack(value).hex() == written
    assert shown(unpack(bytes.fromhex(written))) == shown(value)
