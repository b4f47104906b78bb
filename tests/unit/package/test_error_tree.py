"""The tree of errors that errors.py documents is the tree of its classes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from livingai import errors
from livingai.errors import (
    CorruptBlobError,
    CorruptRecordError,
    CorruptRowError,
    JournalClosedError,
    JournalError,
    LivingAIError,
    RunError,
    RunFormatError,
    StoreError,
)

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, LivingAIError)
]


def drawn(cls: type[LivingAIError], depth: int = 0) -> Iterator[str]:
    """A class, the other classes that it is, and below it those whose first base it is."""
    others = ", ".join(base.__name__ for base in cls.__bases__[1:])
    yield "    " * depth + cls.__name__ + (f" ({others})" if others else "")
    for each in CLASSES:
        if each.__bases__[0] is cls:
            yield from drawn(each, depth + 1)


def test_the_documented_tree_is_the_tree_of_the_classes() -> None:
    documented = textwrap.dedent((errors.__doc__ or "").partition("::\n\n")[2]).strip()
    assert documented.splitlines() == list(drawn(LivingAIError))


@pytest.mark.parametrize(
    ("cls", "caught_as"),
    [
        (CorruptRowError, (CorruptRecordError, StoreError, ValueError)),
        (CorruptBlobError, (CorruptRecordError, StoreError, ValueError)),
        (JournalClosedError, (JournalError, OSError, RuntimeError)),
        (RunFormatError, (RunError, RuntimeError, ValueError)),
    ],
)
def test_an_error_is_caught_as(cls: type[LivingAIError], caught_as: tuple[type, ...]) -> None:
    for base in caught_as:
        with pytest.raises(base) as caught:
            raise cls
        assert str(caught.value)
