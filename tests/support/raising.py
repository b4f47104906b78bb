"""Functions that raise, and how to catch what they raise."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import os
import pathlib
import sqlite3
from collections.abc import Callable
from typing import Any


def raised(provoke: Callable[[], Any]) -> Exception:
    try:
        provoke()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def chained() -> None:
    try:
        try:
            {}["a"]  # type: ignore[index]
        except KeyError as error:
            raise OSError(28, "no space", "a.txt") from error
    except OSError as error:
        error.add_note("while saving")
        raise RuntimeError("lost") from error


def grouped() -> None:
    raise ExceptionGroup("many", [raised(chained), ExceptionGroup("inner", [TypeError("t", 1)])])


def renamed() -> None:
    os.rename("/nowhere/a", pathlib.Path("/nowhere/b"))


def sql() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("select * from nothing")


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Detail:
    code: int
    colour: Colour


class Slotted(Exception):
    __slots__ = ("detail",)

    def __init__(self, *, detail: Detail) -> None:
        super().__init__("slotted", detail.colour, collections.deque([1]), range(3), type(detail))
        self.detail = detail


class Wordy(Exception):
    def __init__(self, what: str, code: int) -> None:
        self.what, self.code = what, code

    def __str__(self) -> str:
        return f"{self.what} ({self.code})"

    def __repr__(self) -> str:
        return f"<Wordy {self.code}>"


def slotted() -> None:
    raise Slotted(detail=Detail(3, Colour.RED))


def wordy() -> None:
    raise Wordy("busy", 7)


def gone(*bases: type, module: str = "not_loaded", **body: Any) -> Any:
    return type("Gone", bases, {"__module__": module, **body})
