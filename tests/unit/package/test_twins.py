"""Every asynchronous method of a public class and its synchronous twin take and give the same.

Twins are ``X`` and ``X_sync`` of one class or module, and the methods of ``SyncY`` and ``Y``. They
are found here, not listed: a method that is added without its twin, or with another signature,
fails.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import livingai

#: What has functions with twins, and is no part of ``livingai.__all__``.
MODULES = ("livingai.adapters.messages",)
#: Classes with twins that are no part of it, either.
CLASSES = ("livingai.adapters.shared_log.SharedLog",)
#: What has twins.
Holder = type | ModuleType


def public_classes() -> list[type]:
    return [each for name in livingai.__all__ if isinstance(each := getattr(livingai, name), type)]


def functions_of(holder: Holder) -> dict[str, Any]:
    """Public functions of a module, or methods of a class and its bases."""
    return {
        name: value
        for name, value in inspect.getmembers(holder, inspect.isfunction)
        if not name.startswith("_")
        and (isinstance(holder, type) or value.__module__ == holder.__name__)
    }


def suffixed() -> Iterator[tuple[str, Any, Any]]:
    """(name, function, twin) of all ``X`` and ``X_sync``; one of them may be missing."""
    holders: list[Holder] = [*public_classes(), *map(importlib.import_module, MODULES)]
    for module, _, name in (each.rpartition(".") for each in CLASSES):
        holders.append(getattr(importlib.import_module(module), name))
    for holder in holders:
        functions = functions_of(holder)
        names = {name.removesuffix("_sync") for name in functions if name.endswith("_sync")}
        names |= {name for name, each in functions.items() if inspect.iscoroutinefunction(each)}
        for name in sorted(names):
            twins = functions.get(name), functions.get(f"{name}_sync")
            yield f"{holder.__name__}.{name}", *twins


def prefixed() -> Iterator[tuple[str, Any, Any]]:
    """(name, method, twin) of all classes ``Y`` and ``SyncY``."""
    classes = {each.__name__: each for each in public_classes()}
    for name, cls in classes.items():
        twin = classes.get(f"Sync{name}")
        if twin is not None:
            mine, other = functions_of(cls), functions_of(twin)
            for method in sorted(mine.keys() | other.keys()):
                yield f"{name}.{method}", mine.get(method), other.get(method)


SUFFIXED, PREFIXED = list(suffixed()), list(prefixed())


def given(function: Any) -> str:
    """What it gives once it was awaited, as its annotation says; Run and SyncRun count as one."""
    text = str(inspect.signature(function).return_annotation)
    awaited = re.fullmatch(r"(?:Coroutine\[Any, Any, |Awaitable\[)(.*)\]", text)
    text = text if awaited is None else awaited[1]
    return re.sub(r"\bSync(?=[A-Z])", "", text)


@pytest.mark.parametrize(
    ("function", "twin"), [each[1:] for each in SUFFIXED + PREFIXED],
    ids=[each[0] for each in SUFFIXED + PREFIXED],
)  # fmt: skip
def test_twins_have_the_same_signature(function: Any, twin: Any) -> None:
    assert function is not None, "the asynchronous one is missing"
    assert twin is not None, "the synchronous twin is missing"
    parameters = list(inspect.signature(function).parameters.values())
    assert parameters == list(inspect.signature(twin).parameters.values())
    assert given(function) == given(twin)
    assert not inspect.iscoroutinefunction(twin)


def test_the_twins_are_found() -> None:
    names = {name for name, *_ in SUFFIXED + PREFIXED}
    assert names >= {
        "CheckpointEngine.save", "CheckpointEngine.run", "RecoveryEngine.replay",
        "ReplaySession.run", "SharedLog.append", "livingai.adapters.messages.import_run",
        "Run.step", "Run.using",
    }  # fmt: skip
