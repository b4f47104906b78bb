"""What :class:`~livingai.testing.AdapterConformance` needs of an adapter, and the process in which
it is asked for it.

``python -m livingai.testing.harness MODULE:CLASS STORE DIRECTORY`` makes an engine and the harness,
and then answers requests, one JSON line each: ``[method, arguments]`` gives ``{"value": ...}``,
``{"in_doubt": text}`` or ``{"error": text}``.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from livingai.engine.engine import CheckpointEngine
from livingai.errors import InDoubtError
from livingai.stores.opening import open_store

#: When a process of :meth:`AdapterHarness.run` is killed: before the tool has its effect, or as
#: soon as it has had it.
Death = Literal["", "before", "behind"]


class AdapterHarness(ABC):
    """An adapter with its framework, as one process uses it. It is made anew in each process."""

    #: Whether several processes may write one thread at the same time.
    several_writers: bool = True

    def __init__(self, engine: CheckpointEngine) -> None:
        self.engine = engine

    @abstractmethod
    def write(self, thread: str, text: str) -> None:
        """Have the framework persist a text in a thread (session, flow, ...); return once that is
        acknowledged."""

    @abstractmethod
    def read(self, thread: str) -> list[str]:
        """The texts that were written to a thread, as the framework loads them, in its order."""

    @abstractmethod
    def run(self, thread: str, effect: Callable[[], str]) -> str:
        """A run of the framework, with a model that needs no network, which calls one tool; that
        tool calls ``effect``, and the run gives its result. Asked again after a crash, it resumes.

        Raises:
            InDoubtError: it cannot know whether the tool had its effect before the crash.
        """

    @abstractmethod
    def execution(self, thread: str) -> str:
        """The execution with the nodes of :meth:`run`."""


class Served:
    """The methods that another process may ask for."""

    def __init__(self, harness: AdapterHarness) -> None:
        self._harness = harness

    def several_writers(self) -> bool:
        """As the harness."""
        return self._harness.several_writers

    def write(self, thread: str, texts: list[str], said: str) -> None:
        """Write texts; each goes to the file ``said`` as it is acknowledged."""
        with open(said, "a", encoding="utf-8") as told:
            for text in texts:
                self._harness.write(thread, text)
                told.write(f"{text}\n")
                told.flush()

    def read(self, thread: str) -> list[str]:
        """As the harness."""
        return self._harness.read(thread)

    def run(self, thread: str, effects: str, death: Death) -> str:
        """Run; the effect is a line in the file ``effects``."""

        def effect() -> str:
            if death == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            with open(effects, "a", encoding="utf-8") as file:
                file.write(f"{thread}\n")
            if death == "behind":
                os.kill(os.getpid(), signal.SIGKILL)
            return "effected"

        return self._harness.run(thread, effect)

    def nodes(self, thread: str) -> list[tuple[str, str, str]]:
        """Type, status and framework of each node of a run."""
        nodes = self._harness.engine.nodes_sync(self._harness.execution(thread))
        found = [(node.type, node.status, node.metadata.get("framework")) for node in nodes]
        return [(str(kind), str(status), str(name or "")) for kind, status, name in found]


_ASKED: Final = frozenset({"several_writers", "write", "read", "run", "nodes"})


def main(arguments: list[str]) -> None:
    """Answer until the input ends; then end, without closing the engine."""
    spec, store, directory = arguments
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a framework prints is no answer
    module, _, name = spec.partition(":")
    kind: type[AdapterHarness] = getattr(importlib.import_module(module), name)
    where = {"directory": directory} if directory else {}
    served = Served(kind(CheckpointEngine(open_store(store), idle_s=0.2, **where)))  # type: ignore[arg-type]
    for line in sys.stdin:
        method, given = json.loads(line)
        answer: dict[str, Any]
        try:
            if method not in _ASKED:
                raise ValueError(f"nobody may ask for {method!r}")
            answer = {"value": getattr(served, method)(*given)}
        except InDoubtError as error:
            answer = {"in_doubt": str(error)}
        except Exception as error:  # the asking test says what it thinks of it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main(sys.argv[1:])
