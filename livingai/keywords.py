"""Settings that are given by keyword: what is said of one that does not exist."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from livingai.errors import ConfigurationError
from livingai.names_04 import refuse_old


def check_keywords(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise ConfigurationError if a keyword in ``given`` is not among ``known``.

    The message names it, the one that was probably meant, and all there are. ``what`` is what they
    are, such as "setting of a run".
    """
    names = sorted(known)
    unknown = sorted(set(given) - set(names))
    if not unknown:
        return
    meant = [nearest(each, names) for each in unknown]
    hints = " and ".join(repr(each) for each in meant if each is not None)
    raise ConfigurationError(
        f"unknown {what}: {', '.join(unknown)}{f' (did you mean {hints}?)' if hints else ''}; "
        f"there are {', '.join(names)}"
    )


C = TypeVar("C", bound=type)


def checked(what: str) -> Callable[[C], C]:
    """Decorates a dataclass of settings: its constructor says what is wrong with a keyword."""

    def decorate(cls: C) -> C:
        untyped: Any = cls
        build = untyped.__init__

        @functools.wraps(build)
        def __init__(self: Any, *args: Any, **given: Any) -> None:
            refuse_old(given, cls.__name__)
            check_keywords(given, untyped.__dataclass_fields__, what)
            build(self, *args, **given)

        untyped.__init__ = __init__
        return cls

    return decorate


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like ``word``; None if none is."""
    names = list(known)
    found = difflib.get_close_matches(word.lower(), names, 1, 0.6)
    if not found:  # a part of the name, such as "budget" for budget_ms
        found = [each for each in names if word and (word in each or each in word)][:1]
    return found[0] if found else None
