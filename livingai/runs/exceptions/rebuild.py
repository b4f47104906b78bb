"""Makes exceptions again from what :mod:`livingai.runs.exceptions.record` has recorded.

1. The class is found among what is loaded, never imported. Without it, and where text or repr would
   not be the recorded ones, a stand-in is made (:mod:`livingai.runs.exceptions.types`).
2. It is made without its constructor: with the ``__new__`` of the builtin exception that it is
   derived from, and without arguments. A hook's ``rebuild`` goes before that.
3. Then it is given its arguments, attributes, slots, cause and context. An attribute that cannot be
   set is left out.
"""

from __future__ import annotations

import types
from contextlib import suppress
from typing import Any

from livingai.errors import RecordedError
from livingai.node import shown
from livingai.runs.exceptions.clients import ADAPTERS, HOOKS
from livingai.runs.exceptions.hooks import complain, hook_named
from livingai.runs.exceptions.record import (
    ARGS,
    CAUSE,
    CONTEXT,
    LONGEST_MESSAGE,
    SUPPRESS,
    slots_of,
)
from livingai.runs.exceptions.types import (
    RECORDED,
    Name,
    Revived,
    attributes_of,
    find_exception,
    nearest,
    stand_in_type,
)
from livingai.runs.exceptions.values import LeftOut, Raising, cut, said


def rebuild(description: dict[str, Any]) -> Exception:
    """The exception of a record; ``type`` and ``message`` are in ``description``.

    Raises some exception if ``description`` is not a valid one.
    """
    entries = [description, *description.get("others", ())]
    found = _Rebuilding(entries, set())
    inexact = found.inexact()
    if inexact:
        found = _Rebuilding(entries, inexact)
    error = found.error(0)
    assert isinstance(error, Exception)
    return error


class _Rebuilding:
    """One attempt; the exceptions whose numbers are in ``inexact`` become stand-ins."""

    def __init__(self, entries: list[dict[str, Any]], inexact: set[int]) -> None:
        self._entries = entries
        self._inexact = inexact
        self._made: dict[int, BaseException] = {}
        self._begun: set[int] = set()
        self._raising = Raising(self.error, ADAPTERS)
        self.error(0)

    def inexact(self) -> set[int]:
        """Numbers of the exceptions whose text or repr differs from the recorded one."""
        return {number for number, each in self._made.items() if self._differs(number, each)}

    def _differs(self, number: int, error: BaseException) -> bool:
        entry = self._entries[number]
        if issubclass(type(error), Revived):  # isinstance would ask the exception, too
            return False
        text = entry["message"]
        if text.startswith("<its str() raised "):
            return True
        mine = shown(error)
        if text not in (mine, cut(mine, LONGEST_MESSAGE)):
            return True
        return "repr" in entry and said(repr, error) != entry["repr"]

    def error(self, number: int) -> BaseException:
        """The exception of that number, made when it is first asked for."""
        if number in self._made:
            return self._made[number]
        if number in self._begun:
            raise ValueError("a group or hook that contains itself")
        self._begun.add(number)
        entry = self._entries[number]
        root = Exception if number == 0 else BaseException
        error = self._by_hook(entry, root) or self._plain(number, entry, root)
        self._made[number] = error
        self._link(error, entry)
        return error

    # -- making --

    def _by_hook(self, entry: dict[str, Any], root: type[BaseException]) -> BaseException | None:
        if "hook" not in entry:
            return None
        module, name, held = entry["hook"]
        hook = hook_named((module, name), HOOKS)
        if hook is None:
            return None
        try:
            error = hook.rebuild(self._raising.value(held))
            if not isinstance(error, root):
                raise TypeError(f"it gave {error!r:.200}, not an instance of {root.__name__}")
        except LookupError as failure:
            if (module, name) not in HOOKS:  # else the library is not loaded
                complain("rebuild", (module, name), failure)
            return None
        except Exception as failure:
            complain("rebuild", (module, name), failure)
            return None
        self._complete(error, entry, root)
        return error

    def _complete(
        self, error: BaseException, entry: dict[str, Any], root: type[BaseException]
    ) -> None:
        """Complete an exception that a hook has made: set its class to the recorded one, if that is
        a subclass of its own, and add attributes that it lacks."""
        name = (entry["module"], entry["type"])
        cls = find_exception(name, entry.get("bases", ()), root)
        if cls is not None and cls is not type(error) and issubclass(cls, type(error)):
            with suppress(TypeError):  # another layout
                error.__class__ = cls
        if "args" in entry:
            ARGS.__set__(error, tuple(entry["args"]))
        held = attributes_of(error)
        for key, each in entry.get("attributes", {}).items():
            held.setdefault(str(key), list(each) if key == "__notes__" else each)

    def _plain(
        self, number: int, entry: dict[str, Any], root: type[BaseException]
    ) -> BaseException:
        name = (entry["module"], entry["type"])
        cls = find_exception(name, entry.get("bases", ()), root)
        error: BaseException | None = None
        if cls is not None and number not in self._inexact:
            with suppress(Exception):
                error = self._bare(cls, entry)
                self._made[number] = error
                self._fill(error, entry)
                return error
        error = self._stand_in(name, cls, entry, root)
        self._made[number] = error
        with suppress(Exception):
            self._fill(error, entry)
        held = attributes_of(error)
        held["__notes__"] = [*held.get("__notes__", ()), _note(entry, exists=cls is not None)]
        return error

    def _stand_in(
        self, name: Name, cls: type[BaseException] | None, entry: dict[str, Any],
        root: type[BaseException],
    ) -> BaseException:  # fmt: skip
        bases = [cls] if cls is not None else []
        bases += [each for each in nearest(entry.get("bases", ()), root)
                  if cls is None or not issubclass(cls, each)]  # fmt: skip
        made = stand_in_type(name, tuple(bases))
        try:
            error = self._bare(made, entry)
        except Exception:
            made = stand_in_type(name, ())
            error = self._bare(made, entry)
        attributes_of(error)[RECORDED] = (entry["message"], entry.get("repr"), entry, rebuilt)
        return error

    def _bare(self, cls: type[BaseException], entry: dict[str, Any]) -> BaseException:
        """An exception of ``cls`` with nothing set; runs no code but that of builtin classes."""
        for base in cls.__mro__:
            new = vars(base).get("__new__")
            if not isinstance(new, types.BuiltinFunctionType):
                continue
            if issubclass(cls, BaseExceptionGroup):
                return new(cls, *self._members(entry))  # type: ignore[no-any-return]
            if "state" not in entry:  # of an earlier version, which relied on the arguments
                return new(cls, *entry.get("args", ()))  # type: ignore[no-any-return]
            return new(cls)  # type: ignore[no-any-return]
        raise TypeError(f"{cls!r} cannot be made")

    def _members(self, entry: dict[str, Any]) -> tuple[str, list[BaseException]]:
        """Message and exceptions of a group."""
        if "state" not in entry:
            return entry["args"][0], [_earlier(each) for each in entry["exceptions"]]
        state = entry["state"]
        found = self._raising.value(state["exceptions"])
        members = [_as_exception(each) for each in found]
        return str(self._raising.value(state["message"])), members

    # -- filling --

    def _fill(self, error: BaseException, entry: dict[str, Any]) -> None:
        value = self._raising.value
        if "held" in entry:
            ARGS.__set__(error, tuple(value(each) for each in entry["held"]))
        elif "args" in entry and not ("exceptions" in entry and "state" not in entry):
            ARGS.__set__(error, tuple(entry["args"]))
        if "state" not in entry:
            _initialize(error, entry)
        state = entry.get("state", {})
        for name, slot in slots_of(type(error)):
            if name in state:
                with suppress(AttributeError, TypeError, ValueError, OverflowError):
                    slot.__set__(error, value(state[name]))
        held = attributes_of(error)
        for name, each in {**entry.get("attributes", {})}.items():
            if isinstance(name, str):
                held[name] = list(each) if name == "__notes__" else each
        for name, each in entry.get("objects", {}).items():
            held[str(name)] = value(each)
        gone = [name for name in entry.get("left_out", ()) if not str(name).startswith("_")]
        if gone and entry is self._entries[0]:
            note = f"recorded without {', '.join(gone)}: see docs/RECOVERY.md, register_exception"
            held["__notes__"] = [*held.get("__notes__", ()), note]

    def _link(self, error: BaseException, entry: dict[str, Any]) -> None:
        for key, slot in (("cause", CAUSE), ("context", CONTEXT)):
            if key in entry:
                slot.__set__(error, self.error(entry[key]))
        SUPPRESS.__set__(error, bool(entry.get("suppress")))


def rebuilt(type_name: str, message: str, description: dict[str, Any]) -> Exception:
    """The exception of that name, text and description; as a last resort a plain RecordedError."""
    named = {"module": "builtins", **description, "type": type_name, "message": message}
    try:
        return rebuild(named)
    except Exception as failure:
        error = RecordedError(f"{type_name}: {message}", type_name)
        error.add_note(f"its recorded description cannot be used ({type(failure).__name__})")
        return error


def _note(entry: dict[str, Any], *, exists: bool) -> str:
    """The note that a stand-in carries."""
    name = f"{entry['module']}.{entry['type']}"
    why = "could not be made again" if exists else "is not loaded in this process"
    return f"{entry['type']}: {entry['message']:.200} (as recorded; {name} {why})"


def _as_exception(value: Any) -> BaseException:
    """A member of a group that was too large to be recorded whole."""
    if isinstance(value, BaseException):
        return value
    return RecordedError(str(value), type(value).__qualname__ if isinstance(value, LeftOut) else "")


def _earlier(entry: dict[str, Any]) -> Exception:
    """A member of a group, as an earlier version recorded it."""
    return rebuild(entry)


def _initialize(error: BaseException, entry: dict[str, Any]) -> None:
    """Initialize an exception that an earlier version recorded: call the ``__init__`` of its
    builtin class with the recorded arguments."""
    if isinstance(error, BaseExceptionGroup):
        return
    for base in type(error).__mro__:
        build = vars(base).get("__init__")
        if isinstance(build, types.WrapperDescriptorType):  # of a class that is written in C
            with suppress(Exception):
                build(error, *entry.get("args", ()))
            return
