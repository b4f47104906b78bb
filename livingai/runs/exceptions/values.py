"""Arguments and attributes of exceptions, as plain values and back.

A value is recorded as a list that begins with what it is:

=================================== ==============================================================
``["=", value]``                    a plain value (:func:`livingai.serial.pack` lists them)
``["list", [...]]``, ``"tuple"``,   with others inside; a dict as ``[[key, value], ...]``
``"set"``, ``"frozenset"``, ``"dict"``
``["error", number]``               an exception: its place in the table of the whole record
``["class", module, name]``         a class, ``["module", name]`` a module
``["enum", module, name, member]``
``["fields", module, name, {...}]`` a dataclass, attrs class or pydantic model, by its fields
``["named", module, name, [...]]``  a named tuple
``["object", adapter, value]``      of a class that :mod:`livingai.runs.exceptions.clients` knows
``["lost", module, name, repr, str]`` anything else: only how it looks is kept
=================================== ==============================================================

Nothing is called to make these again but the constructors of the adapters, which are livingai's.
Classes are only found among what is loaded; their ``__init__`` and ``__new__`` are not run.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from livingai import serial
from livingai.runs.exceptions.types import Name, find_class, name_of

#: Deeper values, and those that contain themselves, are lost.
_MOST_LEVELS: Final = 12
_MOST_CHARS: Final = 1024
#: Most bytes of all arguments and attributes, without the first exception's arguments.
_MOST_BYTES: Final = 1 << 20
#: Most values that are recorded one by one, in all.
_MOST_VALUES: Final = 10_000
#: Their subclasses are recorded as these; they compare equal to the original.
_PLAIN: Final = (str, bytes, bytearray, int, float, dict, list, tuple, set, frozenset)
_SLOTS: Final = (types.MemberDescriptorType, types.GetSetDescriptorType)


class Adapter(NamedTuple):
    """How objects of one class, known by name, are taken down and made again.

    ``rebuild`` raises LookupError if the library is not loaded.
    """

    take_down: Callable[[Any], Any]
    rebuild: Callable[[Any], Any]


class Redacted(list[Any]):
    """The result of an adapter that left out a secret."""


class LeftOut:
    """Takes the place of something that an exception held and that could not be recorded; it shows
    as the original did. ``docs/RECOVERY.md`` says what is recorded."""

    def __init__(self, shown_repr: str, shown_str: str) -> None:
        self._repr = shown_repr
        self._str = shown_str

    def __repr__(self) -> str:
        return self._repr

    def __str__(self) -> str:
        return self._str


def cut(text: str, most: int = _MOST_CHARS) -> str:
    """``text`` as a plain string, cut down to so many characters."""
    text = "".join((text,))
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters in all)"


def said(show: Callable[[Any], str], value: Any) -> str:
    """``str()`` or ``repr()`` of something; if that raises, a text that says so."""
    try:
        return cut(show(value))
    except Exception as failure:
        return f"<its {show.__name__}() raised {type(failure).__name__}>"


def size_of(value: Any) -> int | None:
    """Bytes of a plain value; None if it is none."""
    try:
        return len(serial.pack(value))
    except Exception:  # it cannot be encoded, or looking at it raises
        return None


class Lowering:
    """Takes values down; ``place`` gives an exception's number, or None if the table is full."""

    def __init__(
        self, place: Callable[[BaseException], int | None], adapters: dict[Name, Adapter]
    ) -> None:
        self._place = place
        self._adapters = adapters
        self._left = _MOST_BYTES
        self._values_left = _MOST_VALUES
        #: Whether ``str()`` and ``repr()`` are called on a value that cannot be recorded. On
        #: arguments, yes: the exception's text has them. Attributes may be anything, such as a
        #: query that is run when it is shown.
        self.asking = True
        #: Whether a secret was left out, so that what shows it must not be recorded either.
        self.redacted = False

    def plain(self, value: Any) -> bool:
        """Whether it can be recorded as it is, and there is room."""
        size = size_of(value)
        if size is None or size > self._left:
            return False
        self._left -= size
        return True

    def whole(self, value: Any) -> bool:
        """Whether it can be recorded as it is, however large it is."""
        return size_of(value) is not None

    def lower(self, value: Any, levels: int = _MOST_LEVELS) -> list[Any]:
        """``value`` as the table above describes it; as lost, if looking at it raises."""
        self._values_left -= 1
        try:
            return self._lower(value, levels)
        except Exception:
            return self._lost(value)

    def _lower(self, value: Any, levels: int) -> list[Any]:
        if isinstance(value, BaseException):
            number = self._place(value)
            return self._lost(value) if number is None else ["error", number]
        if self.plain(value):
            return ["=", value]
        if levels <= 0:
            return self._lost(value)
        kind = type(value)
        if isinstance(value, type):
            return ["class", *name_of(value)]
        if isinstance(value, types.ModuleType):
            return ["module", cut(value.__name__)]
        if isinstance(value, enum.Enum):
            return ["enum", *name_of(kind), value.name]
        for cls in kind.__mro__[:-1]:
            adapter = self._adapters.get(name_of(cls))
            if adapter is not None:
                inner = self._lower(adapter.take_down(value), levels - 1)
                return ["object", ":".join(name_of(cls)), inner]
        fields = field_names(kind)
        if fields is not None:
            held = {name: getattr(value, name) for name in fields if hasattr(value, name)}
            return ["fields", *name_of(kind), self._named(held, levels)]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return ["named", *name_of(kind), [self.lower(each, levels - 1) for each in value]]
        return self._contained(value, levels)

    def _contained(self, value: Any, levels: int) -> list[Any]:
        """A container with others inside, or a value of a subclass of a plain type."""
        self.redacted = self.redacted or isinstance(value, Redacted)
        plain: Any = next((each for each in _PLAIN if isinstance(value, each)), None)
        if plain is None or (hasattr(value, "__len__") and len(value) > self._values_left):
            return self._lost(value)
        if plain is dict:
            pairs = [
                [self.lower(key, levels - 1), self.lower(each, levels - 1)]
                for key, each in dict.items(value)
            ]
            return ["dict", pairs]
        if plain in (list, tuple, set, frozenset):
            members = plain.__iter__(value)
            return [plain.__name__, [self.lower(each, levels - 1) for each in members]]
        same = "".join((value,)) if plain is str else plain.__new__(plain, value)
        return ["=", same] if type(value) is not plain and self.plain(same) else self._lost(value)

    def _named(self, held: dict[str, Any], levels: int) -> dict[str, Any]:
        return {name: self.lower(each, levels - 1) for name, each in held.items()}

    def _lost(self, value: Any) -> list[Any]:
        name = name_of(type(value))
        if self.asking:
            return ["lost", *name, said(repr, value), said(str, value)]
        return ["lost", *name, *[f"<{'.'.join(name)}>"] * 2]


class Raising:
    """Makes values again; ``error`` gives the exception of a number."""

    def __init__(
        self, error: Callable[[int], BaseException], adapters: dict[Name, Adapter]
    ) -> None:
        self._error = error
        self._adapters = adapters

    def value(self, lowered: Any) -> Any:
        """What :meth:`Lowering.lower` was given, or what looks like it.

        Raises ValueError, LookupError or TypeError for what it cannot have written.
        """
        kind, *rest = lowered
        if kind == "=":
            return rest[0]
        if kind == "error":
            return self._error(rest[0])
        if kind == "dict":
            return {self.value(key): self.value(each) for key, each in rest[0]}
        container = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}.get(kind)
        if container is not None:
            return container(self.value(each) for each in rest[0])
        return self._named(kind, *rest)

    def _named(self, kind: str, module: str, *rest: Any) -> Any:
        if kind == "lost":
            name, shown_repr, shown_str = rest
            return left_out((module, name), shown_repr, shown_str)
        if kind == "module":
            return _loaded_module(module)
        if kind == "object":
            home, _, name = module.partition(":")
            held = self.value(rest[0])
            try:
                return self._adapters[home, name].rebuild(held)
            except LookupError:
                return left_out((home, name), f"<{home}.{name}>")
        name = rest[0]
        cls = find_class(module, name)
        if cls is None:
            return left_out((module, name), f"<{module}.{name}>")
        if kind == "class":
            return cls
        if kind == "enum" and issubclass(cls, enum.Enum):
            return cls._member_map_.get(rest[1]) or left_out((module, name), f"{name}.{rest[1]}")
        if hasattr(cls, "__del__"):  # that would be run
            return left_out((module, name), f"<{module}.{name}>")
        if kind == "named" and issubclass(cls, tuple) and hasattr(cls, "_fields"):
            return tuple.__new__(cls, [self.value(each) for each in rest[1]])
        if kind == "fields" and field_names(cls) is not None:
            return with_fields(cls, {key: self.value(each) for key, each in rest[1].items()})
        raise ValueError(f"no value is of the kind {kind!r}")


def left_out(name: Name, shown_repr: str, shown_str: str | None = None) -> LeftOut:
    """A stand-in whose class is called like the original's."""
    short = name[1].rpartition(".")[2]
    cls: type[LeftOut] = type(short, (LeftOut,), {"__module__": name[0], "__qualname__": name[1]})
    return cls(shown_repr, shown_repr if shown_str is None else shown_str)


def _loaded_module(name: str) -> Any:
    return sys.modules.get(name) or left_out(("builtins", "module"), f"<module {name!r}>")


def field_names(cls: type) -> list[str] | None:
    """What a dataclass, attrs class or pydantic model declares; None for other classes."""
    for key in ("__dataclass_fields__", "__attrs_attrs__", "__pydantic_fields__"):
        declared = getattr(cls, key, None)
        if isinstance(declared, dict):
            return list(declared)
        if isinstance(declared, tuple):
            return [str(each.name) for each in declared]
    return None


def with_fields(cls: type, fields: dict[str, Any]) -> Any:
    """An object of ``cls`` that holds ``fields``; none of its code is run.

    Raises TypeError if that cannot be.
    """
    made: Any = object.__new__(cls)
    if "__pydantic_fields__" in vars(cls):
        own = {"__pydantic_fields_set__": set(fields), "__pydantic_extra__": None,
               "__pydantic_private__": None}  # fmt: skip
        for name, value in own.items():
            object.__setattr__(made, name, value)
    held = getattr(made, "__dict__", None)
    for name, value in fields.items():
        slot = next((vars(each)[name] for each in cls.__mro__ if name in vars(each)), None)
        if isinstance(slot, _SLOTS):
            slot.__set__(made, value)
        elif held is not None:
            held[name] = value
    return made
