"""Harnesses for the conformance class of adapters: one that keeps all promises, and others each of
which breaks one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from livingai import CheckpointEngine, ExecutionNode, NodeRange, NodeType, Status
from livingai.adapters.names import execution_name
from livingai.adapters.shared_log import SharedLog
from livingai.testing import AdapterHarness


class PlainHarness(AdapterHarness):
    """A framework that only has messages, and a run with one call."""

    def __init__(self, engine: CheckpointEngine) -> None:
        super().__init__(engine)
        self.log = SharedLog(engine)
        self.count = itertools.count()

    def name(self, thread: str) -> str:
        """Of the thread's execution."""
        return execution_name("plain", "messages", thread)

    def write(self, thread: str, text: str) -> None:
        """Append it."""
        name = self.name(thread)
        node_id = f"{name}/{time.time_ns():020}-{next(self.count)}"
        self.log.append_sync(ExecutionNode(name, id=node_id, status=Status.SUCCESS), text)

    def read(self, thread: str) -> list[str]:
        """In the order of the store."""
        page = self.log.nodes_between_sync(self.name(thread), NodeRange(limit=10_000))
        return [found.state for found in sorted(page, key=lambda found: found.first)]

    def run(self, thread: str, effect: Callable[[], str]) -> str:
        """By livingai's own runs."""
        with self.engine.run_sync(self.execution(thread), metadata={"framework": "plain"}) as run:
            self.think(thread)
            return run.tool("effect", effect)

    def think(self, thread: str) -> None:
        """Ask the model."""
        node = ExecutionNode(self.execution(thread), type=NodeType.PROMPT, status=Status.SUCCESS)
        node.metadata["framework"] = "plain"
        self.engine.save_sync(node)

    def execution(self, thread: str) -> str:
        """Of a run."""
        return execution_name("plain", "run", thread)


class ForgetfulHarness(PlainHarness):
    """What is written is kept by the process for a while."""

    def __init__(self, engine: CheckpointEngine) -> None:
        super().__init__(engine)
        self.kept: list[tuple[str, str]] = []

    def write(self, thread: str, text: str) -> None:
        self.kept.append((thread, text))
        if len(self.kept) > 3:
            super().write(*self.kept.pop(0))


class MixingHarness(PlainHarness):
    """Threads whose names begin alike are one."""

    def name(self, thread: str) -> str:
        return execution_name("plain", "messages", thread[:6].lower())


class OwningHarness(PlainHarness):
    """Whoever writes last keeps the others out."""

    def write(self, thread: str, text: str) -> None:
        name = self.name(thread)
        node_id = f"{name}/{time.time_ns():020}-{next(self.count)}"
        self.engine.save_sync(ExecutionNode(name, id=node_id, status=Status.SUCCESS), text)


class RepeatingHarness(PlainHarness):
    """A tool is called again."""

    def run(self, thread: str, effect: Callable[[], str]) -> str:
        self.think(thread)
        node = ExecutionNode(self.execution(thread), type=NodeType.TOOL, status=Status.RUNNING)
        node.metadata["framework"] = "plain"
        self.engine.save_sync(node)
        result = effect()
        node.status = Status.SUCCESS
        self.engine.save_sync(node)
        return result


class SilentHarness(PlainHarness):
    """Nothing is recorded of a run."""

    def run(self, thread: str, effect: Callable[[], str]) -> str:
        return effect()
