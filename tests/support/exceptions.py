"""Exceptions, recorded and raised again: what comes back, and in what it differs.

``python -m tests.support.exceptions`` tries every exception class of the standard library and
prints what does not come back; in a process of its own, for it imports all of its modules.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import pkgutil
import re
import sys
import tarfile
import warnings
from collections.abc import Iterator
from typing import Any
from xml.sax import xmlreader

from livingai import ExecutionNode, Status, serial
from livingai.runs.failures import RAISED, describe, rebuild


def recorded(error: Exception) -> ExecutionNode:
    """The node of a call that raised ``error``, as it is read from a store."""
    info, raised = describe(error)
    node = ExecutionNode("run", status=Status.FAILED, error=info, metadata={RAISED: raised})
    return ExecutionNode.from_wire(serial.unpack(serial.pack(node.to_wire())))  # type: ignore[arg-type]


def come_back(error: Exception) -> Exception:
    """``error``, recorded and made again."""
    return rebuild(recorded(error))


def differences(one: Any, other: Any, path: str = "error", seen: Any = None) -> list[str]:
    """In what a program's ``except`` could distinguish the two; empty if in nothing."""
    seen = {} if seen is None else seen
    if id(one) in seen:
        return [] if seen[id(one)] is other else [f"{path}: another object than before"]
    seen[id(one)] = other
    found = []
    if type(one) is not type(other):
        found.append(f"{path}: {type(one)} became {type(other)}")
    found += [
        f"{path}: {show.__name__} {show(one)} became {show(other)}"
        for show in (str, repr)
        if show(one) != show(other)
    ]
    for name in ("__cause__", "__context__", "__suppress_context__", "__notes__", "args"):
        found += compared(one, other, path, name, seen)
    for name in dir(one):
        if not name.startswith("_") and name not in ("args", "with_traceback", "add_note"):
            found += compared(one, other, path, name, seen)
    return found


def compared(one: Any, other: Any, path: str, name: str, seen: Any) -> list[str]:
    try:
        mine = getattr(one, name, None)
    except Exception:  # the original has no such thing either
        return []
    if callable(mine):
        return []
    try:
        its = getattr(other, name, None)
    except Exception as error:
        return [f"{path}.{name} raises {error!r}"]
    return values_differ(mine, its, f"{path}.{name}", seen)


def values_differ(mine: Any, its: Any, path: str, seen: Any) -> list[str]:
    if isinstance(mine, BaseException):
        return differences(mine, its, path, seen)
    if isinstance(mine, list | tuple) and isinstance(its, type(mine)) and len(mine) == len(its):
        pairs = enumerate(zip(mine, its, strict=True))
        return [each for n, (a, b) in pairs for each in values_differ(a, b, f"{path}[{n}]", seen)]
    if mine == its or (type(mine) is type(its) and _looks(mine) == _looks(its)):
        return []
    return [f"{path}: {mine!r} became {its!r}"]


def _looks(value: Any) -> str:
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


# -- the standard library --

_NOT_IMPORTED = ("antigravity", "this", "idlelib", "lib2to3", "test", "tests", "turtledemo",
                 "turtle", "__main__", "tkinter", "_pydecimal", "ensurepip", "venv")  # fmt: skip
_ARGUMENTS: tuple[tuple[Any, ...], ...] = (
    ("it failed",), (2, "it failed", "a.txt", None, "b.txt"), (2, "it failed"),
    ("it failed", "text", 1), ("a", "b", "c", "d"), ("utf-8", b"abc", 0, 1, "why"),
    ("utf-8", "abc", 0, 1, "why"), ("abc", 0, 1, "why"), (), ("m", [ValueError(1)]),
    ("it failed", {}), (1, "it", 2, "failed", {}), (b"ab", 4), (5, ["ls", "-l"]),
    (["ls"], 5.0), ("it failed", "text", 1, 2, "x"), ("http://x", 404, "no", None, None),
)  # fmt: skip

#: Classes that take arguments of their own.
_OWN_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "argparse.ArgumentError": (None, "it failed"),
    "configparser.InterpolationError": ("option", "section", "it failed"),
    "configparser.InterpolationSyntaxError": ("option", "section", "it failed"),
    "configparser.MissingSectionHeaderError": ("a.ini", 3, "line"),
    "py_compile.PyCompileError": (SyntaxError, SyntaxError("x", ("a", 1, 2, "x=")), "a.py"),
    "pydoc.ErrorDuringImport": ("a.py", (ValueError, ValueError("x"), None)),
    "tarfile.AbsolutePathError": (tarfile.TarInfo("/a"),),
    "tarfile.OutsideDestinationError": (tarfile.TarInfo("../a"), "/tmp"),
    "tarfile.SpecialFileError": (tarfile.TarInfo("fifo"),),
    "tarfile.AbsoluteLinkError": (tarfile.TarInfo("a"),),
    "tarfile.LinkOutsideDestinationError": (tarfile.TarInfo("a"), "/tmp"),
    "tarfile.LinkFallbackError": (tarfile.TarInfo("a"), "/tmp"),
    "xml.dom.DOMException": (),
    "xml.sax._exceptions.SAXParseException": ("it failed", None, xmlreader.Locator()),
}
#: Abstract, or made from an open connection: tried for real by the tests.
_ELSEWHERE = ("xml.dom.DOMException", "urllib.error.HTTPError")


def modules() -> Iterator[Any]:
    """All modules of the standard library that can be imported here."""
    names = sorted(name for name in sys.stdlib_module_names if name not in _NOT_IMPORTED)
    for name in names:
        with contextlib.suppress(Exception):
            module = importlib.import_module(name)
            yield module
            for each in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{name}."):
                if not set(each.name.split(".")) & set(_NOT_IMPORTED):
                    with contextlib.suppress(Exception):
                        yield importlib.import_module(each.name)


def standard_classes() -> list[type[Exception]]:
    """Every exception class that a module of the standard library has."""
    found: dict[type[Exception], None] = {}
    for module in modules():
        for value in list(vars(module).values()):
            for each in (value, *(vars(value).values() if isinstance(value, type) else ())):
                if not isinstance(each, type) or not issubclass(each, Exception):
                    continue
                if each.__module__.split(".")[0] in sys.stdlib_module_names:
                    found[each] = None
    return list(found)


def instances(cls: type[Exception]) -> list[Exception]:
    """Exceptions of that class, with whatever arguments it takes."""
    made: list[Exception] = []
    own = _OWN_ARGUMENTS.get(f"{cls.__module__}.{cls.__qualname__}")
    for args in _ARGUMENTS if own is None else (own,):
        with contextlib.suppress(Exception):
            error = cls(*args)
            str(error), repr(error), error.args
            if all(error.args != each.args for each in made):
                made.append(error)
    return made


def main() -> None:
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()):
        classes = standard_classes()
    tried, never = 0, []
    for cls in classes:
        name = f"{cls.__module__}.{cls.__qualname__}"
        made = instances(cls) if name not in _ELSEWHERE else []
        if not made and name not in _ELSEWHERE:
            never.append(name)
        for error in made:
            tried += 1
            for difference in differences(error, come_back(error)):
                print(f"{name}{error.args!r:.80}: {difference}")
    for name in never:
        print(f"{name}: no arguments are known that it takes")
    print(len(classes), "classes,", tried, "exceptions")


if __name__ == "__main__":
    main()
