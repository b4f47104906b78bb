"""The class of a recorded exception: found among what this process has loaded, or one like it.

No module is imported because a record names it, and no attribute is looked up that a module would
have to make first: a record may have been planted. A class that is not there (its module is not
loaded, it was renamed, it was made inside of a function that has not run) is replaced by a
subclass of :class:`~livingai.errors.RecordedError` **and** of the nearest loaded classes that the
recorded one was derived from, under the recorded name. So ``except OSError`` still catches it, and
``type(error).__name__``, ``str(error)`` and ``repr(error)`` are what they were.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterable, Sequence
from typing import Any, Final

from livingai.errors import RecordedError

#: Module and qualified name.
Name = tuple[str, str]
#: Bases that every exception has, so they say nothing about a particular one.
ROOTS: Final = (Exception, BaseException, object)
#: Attribute of a :class:`Revived`: its text, its repr, what it was made from, and the function that
#: makes it from that (and so makes it again from a pickle).
RECORDED: Final = "_livingai_recorded"
_MOST_BASES: Final = 32
_MODULE: Final = vars(type)["__module__"]
_QUALNAME: Final = vars(type)["__qualname__"]
_DICT: Final = vars(BaseException)["__dict__"]


def name_of(cls: type) -> Name:
    """Module and qualified name of a class, as plain strings."""
    module = _MODULE.__get__(cls)
    module = module if isinstance(module, str) else "?"
    return "".join((module,)), "".join((_QUALNAME.__get__(cls),))


def attributes_of(error: BaseException) -> dict[Any, Any]:
    """The ``__dict__`` of an exception, whatever its class makes of that."""
    found: dict[Any, Any] = _DICT.__get__(error)
    return found


def base_names(cls: type) -> list[list[str]]:
    """Names of the exceptions that ``cls`` is derived from, the nearest first, without the roots"""
    bases = [each for each in cls.__mro__[1:] if issubclass(each, BaseException)]
    named = [list(name_of(each)) for each in bases if each not in ROOTS and each is not Revived]
    return named[:_MOST_BASES]


def find(module: str, qualified_name: str) -> Any:
    """What a loaded module holds under that name; None if there is nothing. Runs no code."""
    found: Any = sys.modules.get(module)
    if not isinstance(found, types.ModuleType):
        return None
    for name in qualified_name.split("."):
        try:
            found = vars(found).get(name)
        except TypeError:
            return None
    return found


def find_class(module: str, qualified_name: str) -> type | None:
    """A class of a loaded module."""
    found = find(module, qualified_name)
    return found if isinstance(found, type) else None


def find_exception(
    name: Name, bases: Sequence[Any] = (), root: type[BaseException] = Exception
) -> type[BaseException] | None:
    """The exception class of that name below ``root``; None if this process has none.

    One that was made inside of a function, or by a factory, is in no module's namespace, so it is
    looked for among the subclasses of the nearest base; the newest of that name is taken.
    """
    found = find_class(*name) or _alias(name)
    if found is not None:
        return found if issubclass(found, root) else None
    known = nearest(bases, root)
    if "<locals>" not in name[1] and (not known or known[0].__module__ == "builtins"):
        return None
    for parent in known or [root]:
        for each in reversed(type.__subclasses__(parent)):
            if name_of(each) == name and not issubclass(each, RecordedError):
                return each
    return None


def _alias(name: Name) -> type | None:
    """A class that its module holds under another name, such as ``signal.ItimerError``."""
    module = sys.modules.get(name[0])
    held = list(vars(module).values()) if isinstance(module, types.ModuleType) else []
    return next((each for each in held if isinstance(each, type) and name_of(each) == name), None)


def nearest(bases: Iterable[Any], root: type[BaseException]) -> list[type[BaseException]]:
    """The loaded ones among recorded bases, without those that another one is derived from."""
    kept: list[type[BaseException]] = []
    for name in bases:
        found = find_class(*name)
        if found is None or not issubclass(found, root) or found in ROOTS:
            continue
        if not any(issubclass(each, found) for each in kept):
            kept.append(found)
    return kept


class Revived(RecordedError):
    """Replaces a recorded exception that could not be made again as it was; it has the recorded
    text and repr."""

    def __init_subclass__(cls) -> None:
        """Does nothing: what its other bases do to their subclasses is not meant for it."""

    def __str__(self) -> str:
        return str(attributes_of(self)[RECORDED][0])

    def __repr__(self) -> str:
        looks = attributes_of(self)[RECORDED][1]
        return BaseException.__repr__(self) if looks is None else str(looks)

    @property
    def type_name(self) -> str:
        """Name of the exception's type, as it was recorded."""
        return type(self).__qualname__

    def __reduce__(self) -> Any:
        text, _, description, make = attributes_of(self)[RECORDED]
        return make, (type(self).__qualname__, text, description)


@functools.lru_cache(maxsize=256)
def stand_in_type(name: Name, bases: tuple[type[BaseException], ...]) -> type[Revived]:
    """A class like the recorded one, below as many of ``bases`` as go together."""
    body = {"__module__": name[0], "__qualname__": name[1], "__doc__": "A recorded exception."}
    short = name[1].rpartition(".")[2]
    for some in (bases, *((each,) for each in bases)):
        kept = tuple(each for each in some if not issubclass(Revived, each))
        for combined in ((Revived, *kept), (*kept, Revived)):
            try:
                return type(short, combined, dict(body))  # type: ignore[arg-type]
            except Exception:  # final, layouts that conflict, a metaclass of its own
                continue
    return type(short, (Revived,), dict(body))
