"""Exceptions with circles, endless chains or very large attributes: what is recorded is bounded."""

from __future__ import annotations

from typing import Any

from livingai import serial
from livingai.errors import RecordedError
from livingai.runs.failures import RAISED, rebuild
from tests.support.exceptions import come_back, recorded


def test_circles() -> None:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__context__ = other, one
    other.args = ("other", other)
    one.others = [other]  # type: ignore[attr-defined]
    again = come_back(one)
    back = again.__cause__
    assert type(back) is KeyError
    assert back.__context__ is again
    assert back.args[1] is back
    assert again.others[0] is back  # type: ignore[attr-defined]


def test_a_chain_without_end_is_cut() -> None:
    error: Exception = ValueError("0")
    for number in range(5000):
        later = ValueError(f"{number}")
        later.__cause__, error = error, later
    node = recorded(error)
    assert len(str(node.metadata[RAISED])) < 20_000
    depth, link = 0, rebuild(node)
    while link.__cause__ is not None:
        depth, link = depth + 1, link.__cause__  # type: ignore[assignment]
    assert 30 <= depth <= 32


def test_large_attributes_are_left_out() -> None:
    error = OSError(5, "bad")
    error.small, error.large = "s", b"x" * (2 << 20)  # type: ignore[attr-defined]
    node = recorded(error)
    again = rebuild(node)
    assert (again.small, hasattr(again, "large")) == ("s", False)  # type: ignore[attr-defined]
    assert node.metadata[RAISED]["left_out"] == ["large"]
    assert "without large" in again.__notes__[0]


def test_arguments_without_end_are_cut() -> None:
    objects = [[object()] * 1000] * 100
    node = recorded(ValueError(objects, "end"))
    assert len(serial.pack(node.metadata)) < 2 << 20
    again = rebuild(node)
    assert isinstance(again, ValueError)
    assert again.args[1] == "end"
    many = ExceptionGroup("many", [OSError(number, "failed") for number in range(1500)])
    assert [each.errno for each in come_back(many).exceptions] == list(range(1500))  # type: ignore[attr-defined]


class Unnamed(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> Any:
        raise RuntimeError

    def __getstate__(self) -> Any:
        raise RuntimeError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileObject:
    def __repr__(self) -> str:
        raise RuntimeError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_hostile_exceptions_are_recorded() -> None:
    error = Hostile(1)
    cause = Hostile(HostileObject(), {HostileObject(): [HostileObject()]})
    BaseException.__setattr__(error, "__cause__", cause)
    again = come_back(error)
    assert isinstance(again, Hostile)
    assert isinstance(again, RecordedError)
    assert str(again) == "<its str() raised RuntimeError>"
    nameless = Unnamed("Nameless", (Exception,), {})
    assert isinstance(come_back(nameless("x")), RecordedError)
    mine = ValueError("plain", HostileObject())
    mine.thing = HostileObject()  # type: ignore[attr-defined]
    back = come_back(mine)
    assert isinstance(back, ValueError)
    assert (back.args[0], repr(back.args[1])) == ("plain", "<its repr() raised RuntimeError>")
