"""Exceptions that a recorded call raised: all that an ``except`` can see of them comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import decimal
import functools
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
import zoneinfo
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from tests.support.exceptions import come_back, differences
from tests.support.raising import chained, grouped, raised, renamed, slotted, sql, wordy


def test_every_exception_of_the_standard_library() -> None:
    """In a process of its own, which imports all of the standard library."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.exceptions"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"\d{3} classes, \d{4} exceptions\n", done.stdout), (
        done.stdout + done.stderr
    )


def suppressed() -> None:
    try:
        int("x")
    except ValueError:
        raise LookupError("nothing") from None


def program(text: str) -> None:
    exec(text, {})  # noqa: S102 - what a program would do by mistake


async def hangs() -> None:
    async with asyncio.timeout(0.001):
        await asyncio.Event().wait()


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Demanding(KeyError):
    def __new__(cls, one: int, *, two: int) -> Any:
        return super().__new__(cls)

    def __init__(self, one: int, *, two: int) -> None:
        self.both = (one, two)


class Group(ExceptionGroup[Exception]):
    def __new__(cls, errors: list[Exception]) -> Any:
        made = super().__new__(cls, "several", errors)
        made.count = len(errors)  # type: ignore[attr-defined]
        return made

    def __init__(self, errors: list[Exception]) -> None:
        """As given."""


def constructed() -> None:
    try:
        raise Frozen(3)
    except Frozen as error:
        raise Group([Demanding(1, two=2), error]) from error


PROVOKED: list[Callable[[], Any]] = [
    chained,
    constructed,
    suppressed, grouped, renamed, slotted, wordy,
    lambda: pathlib.Path("/nowhere/x").stat(),
    lambda: os.listdir(pathlib.Path("/nowhere")),
    lambda: os.link("/nowhere/a", "/nowhere/b"),
    lambda: ET.fromstring("<a"),
    functools.partial(b"\xff".decode),
    functools.partial("\udc80".encode),
    lambda: json.loads("{"),
    lambda: decimal.Context(traps=[decimal.InvalidOperation]).create_decimal("x"),
    lambda: re.compile("("),
    lambda: subprocess.run(["false"], check=True),
    lambda: subprocess.run(["sleep", "9"], timeout=0.01, check=True),
    lambda: socket.create_connection(("127.0.0.1", 1)),
    lambda: socket.getaddrinfo("127.0.0.1", "no-such-service"),
    lambda: urllib.request.urlopen("http://127.0.0.1:1/"),
    lambda: zoneinfo.ZoneInfo("No/Where"),
    lambda: asyncio.run(hangs()),
    lambda: next(iter(())),
    lambda: Future[None]().result(0),
    sql,
    *(
        functools.partial(program, text)
        for text in (
            "open('/nowhere/at-all')", "'text'.nothing", "import sys; sys.nothing", "int.nothing",
            "nothing", "import nothing.at.all", "from os import nothing", "x = (", "def f(: pass",
            "def f():\n  print(x)\n  x = 1\nf()", "1 / 0", "[][0]", "{}['a']", "int('x')",
            "''.join([1])", "raise Exception", "raise ValueError()",
            "raise ValueError(1, 'a', None)",
            "import os; os.kill(-1.5, 0)", "def f(n): f(n + 1)\nf(0)", "assert 0, {'a': 1}",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("provoke", PROVOKED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")
def test_provoked_exceptions(provoke: Callable[[], Any]) -> None:
    error = raised(provoke)
    again = come_back(error)
    assert not differences(error, again)
    assert not differences(again, come_back(again)), "recorded once more, it is another one"


def test_the_body_of_an_http_error(http_server: str) -> None:
    error = raised(lambda: urllib.request.urlopen(f"{http_server}/404"))
    again = come_back(error)
    assert isinstance(error, urllib.error.HTTPError)
    assert type(again) is urllib.error.HTTPError
    for one in (error, again):  # recording has read nothing
        assert (one.code, one.reason, one.filename) == (404, "Not Found", f"{http_server}/404")
        assert (str(one), one.headers["Retry-After"]) == ("HTTP Error 404: Not Found", "3")
        assert json.loads(one.read()) == {"error": "no"}
        assert one.read() == b""
        one.close()
