"""What functions of the source name, read with :mod:`ast`, to hold a document's tables to it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from docs.draw import Origin, Step
from tests.support.agents import ROOT

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


@functools.cache
def definitions(path: Path) -> dict[str, _Definition]:
    """All functions, methods and classes of a file, by their names with those around them."""
    return dict(_inside(ast.parse(path.read_text()), ""))


def _inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition):
            yield prefix + child.name, child
            yield from _inside(child, f"{prefix}{child.name}.")


def constants(path: Path) -> set[str]:
    """Names that are assigned at the top of a file, or in the body of a class (with its name)."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for prefix, node in [("", tree), *((f"{n}.", d) for n, d in definitions(path).items())]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Assign | ast.AnnAssign):
                targets = child.targets if isinstance(child, ast.Assign) else [child.target]
                found |= {
                    prefix + name.id
                    for target in targets
                    for name in ast.walk(target)
                    if isinstance(name, ast.Name)
                }
    return found


def called(function: _Definition) -> set[str]:
    """Names and attributes that a function's body uses."""
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name | ast.Attribute)
    }


def named(function: _Definition) -> set[str]:
    """As :func:`called`, and parameters, keywords and texts, all without leading underscores."""
    found = called(function)
    for node in ast.walk(function):
        if isinstance(node, ast.arg | ast.keyword) and node.arg is not None:
            found.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return {name.lstrip("_") for name in found}


def _names_end(function: _Definition, qualified: str, name: str) -> bool:
    """Whether one end of a hop names it: in its body, in its own name, or, where the name ends
    with an underscore, as the beginning of its own."""
    own = [part.lstrip("_") for part in qualified.split(".")]
    name = name.lstrip("_")
    begins = name.endswith("_") and own[-1].startswith(name)
    return begins or name in own or name in named(function)


def find(path: str, name: str, changed: Path = ROOT) -> _Definition | None:
    """A function or class of a file; the folder ``changed`` may have another version of it."""
    file = changed / path if (changed / path).is_file() else ROOT / path
    return definitions(file).get(name) if file.is_file() else None


def problems(ways: dict[str, Step], changed: Path = ROOT) -> Iterator[str]:
    """What is not true of the steps of a document; ``changed`` as for :func:`find`."""
    yield from _too_few_receivers(ways, changed)
    for step in ways.values():
        if find(step.path, step.function, changed) is None:
            yield f"{step.name}: {step.path} has no {step.function}"
        for origin in step.origins:
            if origin.step not in ways:
                yield f"{step.name}: there is no step {origin.step}"
            elif why := _why_not(ways[origin.step], step, origin, changed):
                yield f"{step.name}, reached from {origin.step}: {why}"


def _why_not(before: Step, step: Step, origin: Origin, changed: Path) -> str:
    caller = find(before.path, before.function, changed)
    callee = find(step.path, step.function, changed)
    if caller is None or callee is None:
        return ""  # that is reported already
    last = step.function.rpartition(".")[2]
    if last in ("__init__", "__call__"):  # the class is named instead
        last = step.function.split(".")[-2]
    if origin.called:
        return "" if last in called(caller) else f"{before.function} does not name {last}"
    if not _names_end(caller, "", origin.sent):
        return f"{before.function} does not name {origin.sent}"
    if origin.carrier:
        carrier = find(origin.path, origin.carrier, changed)
        if carrier is None:
            return f"{origin.path} has no {origin.carrier}"
        owner = before.function.split(".", maxsplit=1)[0]
        if last not in called(carrier) or not {origin.sent.lstrip("_"), owner} & named(carrier):
            return f"{origin.carrier} does not give {last} to {owner}"
    elif not _names_end(callee, step.function, origin.received):
        return f"{step.function} does not name {origin.received}"
    return ""


def _too_few_receivers(ways: dict[str, Step], changed: Path) -> Iterator[str]:
    """Where a function is said to call methods of one name on several objects (``lanes.add`` and
    ``pool.add``), it has to use that name on so many."""
    callees: dict[tuple[str, str, str], dict[str, str]] = {}
    for step in ways.values():
        for origin in step.origins:
            before = ways.get(origin.step)
            if origin.called and before is not None and not _is_handed_over(step):
                last = step.function.rpartition(".")[2]
                key = (before.path, before.function, last)
                callees.setdefault(key, {})[f"{step.path} {step.function}"] = step.name
    for (path, function, last), found in callees.items():
        caller = find(path, function, changed)
        if caller is not None and len(found) > 1 and len(found) > len(_receivers(caller, last)):
            for name in found.values():
                yield f"{name}, reached from {function}: it does not use {last} of {len(found)}"


def _is_handed_over(step: Step) -> bool:
    """Whether an object of the step's class is made elsewhere and called without regard to its
    class, as ``drive`` does with effects."""
    return any(origin.sent == step.function.partition(".")[0] for origin in step.origins)


def _receivers(function: _Definition, name: str) -> set[str]:
    """The expressions on which a function uses a name: ``self._pool`` for ``self._pool.add``."""
    return {
        ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""
        for node in ast.walk(function)
        if (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.Name) and node.id == name)
    }
