"""The first items of a packed list, read without the rest."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livingai.errors import CorruptRecordError
from livingai.serial import pack, unpack_first

texts = st.text(st.characters(codec=None), max_size=200)  # lone surrogates, too


@given(st.lists(texts, min_size=4, max_size=4), st.binary(max_size=300))
def test_they_come_back_whatever_follows(names: list[str], rest: bytes) -> None:
    for tail in (rest, (rest, {1, 2})):  # with a mark in front, and without
        packed = pack([*names, tail, {"k": tail}])
        assert unpack_first(packed, 4) == names
    end = len(pack([*names, 0])) - 1
    assert unpack_first(pack([*names, rest])[:end], 4) == names, "cut right behind them"


@given(st.lists(texts, min_size=4, max_size=4), st.data())
def test_what_is_cut_within_them_is_refused(names: list[str], data: st.DataObject) -> None:
    packed = pack(names)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(CorruptRecordError):
        unpack_first(packed[:cut], 4)


@given(st.binary(max_size=500))
def test_made_up_bytes_are_refused_or_read(data: bytes) -> None:
    with suppress(CorruptRecordError):
        assert len(unpack_first(data, 4)) == 4


def test_a_shorter_list_and_no_list_are_refused() -> None:
    for value in ([1, 2, 3], {"a": 1}, "text", 7):
        with pytest.raises(CorruptRecordError):
            unpack_first(pack(value), 4)
