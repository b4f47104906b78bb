"""Errors that travel: the receiver raises the nearest class that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livingai import errors
from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    CorruptRowError,
    LivingAIError,
    MissingBaseError,
    ServiceError,
    StoreError,
)
from livingai.protocol.error_parts import _FIRST, error_from_parts, error_parts
from livingai.protocol.frames import LENGTH, REVISION, frame, parse

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, LivingAIError)
]


def sent(error: BaseException, revision: int = REVISION) -> list[Any]:
    """What arrives of it."""
    parts: list[Any] = parse(frame(error_parts(error, revision))[LENGTH.size :])[0]
    return parts


def as_before_families(name: str, text: str) -> LivingAIError:
    """How agents that were released before there were families read an error. They know the
    classes of that time."""
    cls = getattr(errors, name, ServiceError) if name in _FIRST else ServiceError
    return cls(text)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_arrives_as_what_it_is(cls: type[LivingAIError]) -> None:
    found = error_from_parts(sent(cls("what happened")))
    assert type(found) is (ServiceError if cls is LivingAIError else cls)
    assert str(found) == "what happened"


@pytest.mark.parametrize("cls", CLASSES)
def test_a_process_without_families_is_sent_what_it_knows(cls: type[LivingAIError]) -> None:
    found = as_before_families(*sent(cls("what happened"), 0))
    assert str(found) == "what happened"
    expected = next((each for each in cls.__mro__ if each.__name__ in _FIRST), None)
    assert type(found) is (ServiceError if expected is LivingAIError else expected)


def test_a_damaged_row_is_damage_to_a_process_without_families() -> None:
    assert sent(CorruptRowError("row"), 0) == ["CorruptRecordError", "row"]
    assert sent(MissingBaseError("base"), 0) == ["MissingBaseError", "base"]


def test_a_class_that_is_added_later_needs_no_word_here() -> None:
    """It is known to those who have it, and to others as the class above it."""
    added = type("TornRowError", (CorruptRowError,), {"__doc__": "A torn row."})
    try:
        errors.TornRowError = added  # type: ignore[attr-defined]
        parts = sent(added("torn"))
        assert type(error_from_parts(parts)) is added
        assert sent(added("torn"), 0) == ["CorruptRecordError", "torn"]
    finally:
        del errors.TornRowError  # type: ignore[attr-defined]
    assert type(error_from_parts(parts)) is CorruptRowError
    assert str(error_from_parts(parts)) == "torn"


def test_what_else_the_module_of_errors_holds_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a class that it imports for itself: a name that was sent never calls it."""
    monkeypatch.setattr(errors, "Path", Path, raising=False)
    monkeypatch.setattr(errors, "OSError", OSError, raising=False)
    for name in ("Path", "OSError"):
        found = error_from_parts([name, "text", []])
        assert (type(found), str(found)) == (ServiceError, "text")


def test_an_error_of_a_store_of_somebody_else() -> None:
    class OurStoreError(StoreError):
        """A store's own."""

    class FencedError(ConfigurationError):
        """Has the name of another one."""

    assert type(error_from_parts(sent(OurStoreError("x")))) is StoreError
    assert as_before_families(*sent(OurStoreError("x"), 0)).__class__ is StoreError
    assert type(error_from_parts(sent(FencedError("x")))) is ConfigurationError
    assert type(error_from_parts(sent(KeyError("x")))) is ServiceError
    assert str(error_from_parts(sent(KeyError("x")))) == "KeyError: 'x'"


def test_parts_of_a_process_without_families_are_read() -> None:
    assert type(error_from_parts(["CorruptRowError", "row"])) is CorruptRowError
    assert type(error_from_parts(("NoSuchError", "row"))) is ServiceError
    assert issubclass(CorruptRowError, CorruptRecordError)


def test_no_class_that_old_processes_know_is_gone() -> None:
    assert {cls.__name__ for cls in CLASSES} >= _FIRST
    assert "CorruptRowError" not in _FIRST
    assert len(_FIRST) == 53, "only what came before families; later classes need no entry"
