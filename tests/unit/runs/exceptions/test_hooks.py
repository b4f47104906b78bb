"""Exceptions with a registered function that makes them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from livingai import register_exception
from livingai.errors import ConfigurationError
from livingai.runs.exceptions.hooks import _registered
from tests.support.exceptions import come_back


class Ticket(Exception):
    def __init__(self, client: object) -> None:
        super().__init__("refused")
        self.client = client


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(_registered)
    yield
    _registered.clear()
    _registered.update(before)


@pytest.mark.usefixtures("registry")
def test_a_registered_exception() -> None:
    class Special(Ticket):
        pass

    def take_down(error: Ticket) -> Any:
        return {"client": str(error.client), "why": error.__cause__}

    register_exception(
        Ticket, take_down, lambda held: Ticket(["again", held["client"], held["why"]])
    )
    error = Special(object)
    error.__cause__ = KeyError("why")
    error.add_note("hint")
    again = come_back(error)
    assert type(again) is Special
    assert again.client[:2] == ["again", "<class 'object'>"]  # type: ignore[index]
    assert again.client[2] is again.__cause__  # type: ignore[index]
    assert (again.__notes__, str(again)) == (["hint"], "refused")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("which", ["take_down", "rebuild", "nothing"])
def test_an_exception_comes_back_without_a_hook_that_fails(
    which: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(value: Any) -> Any:
        if which == "nothing":
            return None
        raise OSError("no")

    register_exception(Ticket, *((fails, Ticket) if which == "take_down" else (str, fails)))
    again = come_back(Ticket("c"))
    assert (type(again), again.client, str(again)) == (Ticket, "c", "refused")  # type: ignore[attr-defined]
    assert "register_exception" in caplog.text


@pytest.mark.parametrize("wrong", [(int, str, str), (ValueError, 1, str), (Ticket("x"), str, str)])
def test_what_cannot_be_registered(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigurationError, match="register_exception takes"):
        register_exception(*wrong)
