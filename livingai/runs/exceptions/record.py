"""Exceptions as plain values: everything that a program's ``except`` can look at.

A record is a table of exceptions, because they refer to each other, sometimes in circles. Entry 0
is the exception that the call raised; the others (causes, contexts, members of groups, exceptions
among arguments and attributes) are in its ``others``, and are referred to by their number. An entry
has, as far as needed:

================ =================================================================================
``module``       of the class; its name is the node's ``error.type`` (``type`` in ``others``)
``message``      ``str()`` of it (in ``others``; else the node's ``error.message``)
``repr``         if the class has a repr of its own
``bases``        module and name of the exceptions that the class is derived from
``args``         if all are plain values, else ``held`` (:mod:`~livingai.runs.exceptions.values`)
``attributes``   plain ones of its ``__dict__`` (with ``__notes__``), ``objects`` the others
``state``        what lies in slots and C structures, such as ``OSError.filename``
``left_out``     names of attributes that could not be recorded
``cause``, ``context``, ``suppress``   numbers; and ``__suppress_context__``
``hook``         module and name of the class that a hook is registered for, and what it gave
================ =================================================================================

Recording never fails and never changes the exception. It is bounded: in the number of exceptions,
in the length of a chain of them, and in bytes.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Final

from livingai.node import shown
from livingai.runs.exceptions.clients import ADAPTERS, HOOKS
from livingai.runs.exceptions.hooks import complain, hook_for
from livingai.runs.exceptions.types import RECORDED, attributes_of, base_names, name_of
from livingai.runs.exceptions.values import Lowering, cut, said

#: Most exceptions in a record, and most steps (causes, contexts, members) from the first one.
_MOST_ENTRIES: Final = 2000
_MOST_STEPS: Final = 32
LONGEST_MESSAGE: Final = 8192

_SLOTS: Final = (types.MemberDescriptorType, types.GetSetDescriptorType)
ARGS: Final = vars(BaseException)["args"]
CAUSE: Final = vars(BaseException)["__cause__"]
CONTEXT: Final = vars(BaseException)["__context__"]
SUPPRESS: Final = vars(BaseException)["__suppress_context__"]


def slots_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Names and descriptors of the slots in which instances hold values besides their
    ``__dict__``."""
    seen = set()
    for each in cls.__mro__:
        if each is BaseException or each is object:
            continue
        for name, slot in list(vars(each).items()):
            if isinstance(slot, _SLOTS) and not name.startswith("__") and name not in seen:
                seen.add(name)
                yield name, slot


def take_down(error: BaseException) -> dict[str, Any]:
    """``error``, and all exceptions that it refers to, as the table that this module's text
    describes."""
    return _Table(error).first


class _Table:
    """Builds one record."""

    def __init__(self, error: BaseException) -> None:
        self._numbers: dict[int, int] = {}
        self._errors: list[tuple[BaseException, int]] = []
        self._lowering = Lowering(self._place, ADAPTERS)
        self._steps = 0
        self._place(error)
        entries: list[dict[str, Any]] = []
        while len(entries) < len(self._errors):  # describing one finds others
            each, self._steps = self._errors[len(entries)]
            entries.append(self._describe(each, first=not entries))
        self.first, *others = entries
        if others:
            self.first["others"] = others

    def _place(self, error: BaseException) -> int | None:
        """The number of an exception in the table, which it is added to; None if the table is
        full."""
        known = self._numbers.get(id(error))
        if known is not None:
            return known
        if len(self._errors) >= _MOST_ENTRIES or self._steps >= _MOST_STEPS:
            return None
        self._errors.append((error, self._steps + 1))
        self._numbers[id(error)] = len(self._errors) - 1
        return len(self._errors) - 1

    def _describe(self, error: BaseException, *, first: bool) -> dict[str, Any]:
        module, name = name_of(type(error))
        entry: dict[str, Any] = {"module": module}
        if not first:
            entry["type"] = name
            entry["message"] = cut(shown(error), LONGEST_MESSAGE)
        bases = base_names(type(error))
        if bases:
            entry["bases"] = bases
        self._lowering.redacted = False
        for part in (self._arguments, self._slots, self._attributes, self._chain, self._hook):
            try:
                part(error, entry, first)
            except Exception:  # looking at the object raises
                continue
        if self._lowering.redacted:
            entry.pop("repr", None)
        return entry

    def _arguments(self, error: BaseException, entry: dict[str, Any], first: bool) -> None:
        args = list(ARGS.__get__(error))
        if self._lowering.whole(args) if first else self._lowering.plain(args):
            entry["args"] = args
        else:
            entry["held"] = [self._lowering.lower(each) for each in args]
        if type(error).__repr__ is not BaseException.__repr__:
            entry["repr"] = said(repr, error)

    def _slots(self, error: BaseException, entry: dict[str, Any], first: bool) -> None:
        state = {}
        # OSError shows its file names as they show themselves; the rest is only looked at.
        self._lowering.asking = isinstance(error, OSError)
        for name, slot in slots_of(type(error)):
            try:
                value = slot.__get__(error)
            except Exception:  # not set
                continue
            if value is not None or slot.__objclass__.__flags__ & _HEAP:
                state[name] = self._lowering.lower(value)
        self._lowering.asking = True
        entry["state"] = state

    def _attributes(self, error: BaseException, entry: dict[str, Any], first: bool) -> None:
        plain: dict[str, Any] = {}
        objects: dict[str, Any] = {}
        left_out = []
        self._lowering.asking = False
        try:
            held = attributes_of(error)
            reduced = _reduced(error) if held else {}
            for name, value in list(held.items()):
                if type(name) is not str or name == RECORDED:
                    continue
                lowered = self._lowering.lower(value)
                if lowered[0] == "lost" and name in reduced:  # what it would have pickled
                    lowered = self._lowering.lower(reduced[name])
                if lowered[0] == "=":
                    plain[name] = lowered[1]
                elif lowered[0] == "lost":
                    left_out.append(name)
                else:
                    objects[name] = lowered
        finally:
            self._lowering.asking = True
            found = {"attributes": plain, "objects": objects, "left_out": left_out}
            entry.update({key: each for key, each in found.items() if each})

    def _chain(self, error: BaseException, entry: dict[str, Any], first: bool) -> None:
        for key, slot in (("cause", CAUSE), ("context", CONTEXT)):
            other = slot.__get__(error)
            number = None if other is None else self._place(other)
            if number is not None:
                entry[key] = number
        if SUPPRESS.__get__(error):
            entry["suppress"] = True

    def _hook(self, error: BaseException, entry: dict[str, Any], first: bool) -> None:
        found = hook_for(error, HOOKS)
        if found is None:
            return
        name, hook = found
        try:
            entry["hook"] = [*name, self._lowering.lower(hook.take_down(error))]
        except Exception as failure:
            complain("take_down", name, failure)


#: Set in the flags of classes that are written in Python (and some others).
_HEAP: Final = 1 << 9


def _reduced(error: BaseException) -> dict[str, Any]:
    """The attributes that pickle would store: some classes replace objects by plain values
    there."""
    cls = type(error)
    if cls.__reduce__ is BaseException.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__:
        return {}
    try:
        parts = error.__reduce_ex__(4)
    except Exception:
        return {}
    state = parts[2] if isinstance(parts, tuple) and len(parts) > 2 else None
    return state if isinstance(state, dict) else {}
