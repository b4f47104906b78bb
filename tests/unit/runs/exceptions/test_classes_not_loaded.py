"""Exceptions whose class cannot be imported: a stand-in with the same bases comes back."""

from __future__ import annotations

import copy
import gc
import pickle
import urllib.error
import urllib.request
from typing import Any

import pytest

from livingai.errors import RecordedError
from livingai.runs.failures import rebuild
from tests.support.exceptions import come_back, recorded
from tests.support.raising import gone


class Base(Exception):
    pass


@pytest.mark.parametrize(
    "bases",
    [
        (OSError,),
        (Base,),
        (urllib.error.URLError,),
        (Base, ConnectionError),
        (KeyError,),
        (UnicodeDecodeError,),
        (ExceptionGroup,),
        (RecordedError,),
        (StopIteration,),
    ],
)
def test_a_class_that_is_gone_is_caught_by_its_bases(bases: tuple[type[Exception], ...]) -> None:
    args: tuple[Any, ...] = ("it", [ValueError(1)]) if ExceptionGroup in bases else ("it",)
    args = ("utf-8", b"a", 0, 1, "why") if UnicodeDecodeError in bases else args
    error = gone(*bases)(*args)
    error.code = 7
    node, looks = recorded(error), (str(error), repr(error))
    del error
    gc.collect()  # the class, too
    again = rebuild(node)
    assert isinstance(again, RecordedError)
    for base in bases:
        assert isinstance(again, base)
    assert (type(again).__name__, str(again), repr(again)) == ("Gone", *looks)
    assert again.code == 7  # type: ignore[attr-defined]
    assert again.type_name == "Gone"
    assert "not_loaded.Gone is not loaded" in again.__notes__[-1]
    for twin in (pickle.loads(pickle.dumps(again)), copy.copy(again), rebuild(recorded(again))):
        assert (str(twin), repr(twin)) == looks
        assert twin.code == 7  # type: ignore[union-attr]
        assert isinstance(twin, bases)


def test_a_class_of_a_function_is_found() -> None:
    class Local(Base):
        pass

    assert type(come_back(Local("x"))) is Local


def test_a_class_whose_looks_cannot_be_had_back() -> None:
    class Busy(Exception):
        def __str__(self) -> str:
            return f"busy: {self.connection.name}"  # type: ignore[attr-defined]

    class Connection:
        name = "db1"

    error = Busy()
    error.connection = Connection()  # type: ignore[attr-defined]
    again = come_back(error)
    assert isinstance(again, Busy)
    assert isinstance(again, RecordedError)
    assert str(again) == "busy: db1"
