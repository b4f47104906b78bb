"""What is measured: a step of each framework, with livingai and with what the framework has.

The steps themselves are in the module of that framework, in a table ``OPENERS``: an asynchronous
context manager for each case and side, which gives the function that takes a step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from livingai import CheckpointEngine

#: The side that is livingai's; the others are named as their classes are.
OURS: Final = "livingai"


@dataclass(frozen=True, slots=True)
class Case:
    """A step of a framework, and who takes it."""

    #: Module of this folder, and page of docs/frameworks.
    framework: str
    page: str
    #: The distribution without which it is skipped.
    distribution: str
    name: str
    #: What one step is.
    step: str
    #: Besides :data:`OURS`; the first is what ratios are made with.
    others: tuple[str, ...]
    steps: int = 1000
    #: Steps of one side before it is the next one's turn.
    turn: int = 20
    #: Steps that are taken before anything is measured; they count among ``steps``.
    warm_up: int = 20

    def quick(self) -> Case:
        """The same with a tenth of the steps."""
        return Case(
            self.framework, self.page, self.distribution, self.name, self.step, self.others,
            max(2, self.steps // 10), max(1, self.turn // 2), self.warm_up // 10,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where one side writes in one run."""

    #: An empty folder, whose size is measured at the end.
    data: Path
    #: livingai's engine, on its side.
    engine: CheckpointEngine | None
    steps: int

    @property
    def ours(self) -> CheckpointEngine:
        """The engine, which is there on livingai's side."""
        if self.engine is None:
            raise ValueError("this side has no engine")
        return self.engine


#: Takes step number n, from 0.
StepFunction = Callable[[int], Awaitable[None]]
Steps = AsyncIterator[StepFunction]
Opener = Callable[[Place], AbstractAsyncContextManager[StepFunction]]

_LANGGRAPH: Final = ("langgraph", "langgraph", "langgraph-checkpoint-sqlite")
_ADK: Final = ("google_adk", "google-adk", "google-adk")
_OPENAI: Final = ("openai_agents", "openai_agents", "openai-agents")

CASES: Final = (
    Case(
        *_LANGGRAPH, "production",
        "aput of a state of 5 to 100 KB, of 50 threads in turn", ("AsyncSqliteSaver",),
    ),
    Case(
        *_LANGGRAPH, "chat",
        "aput of a chat that grows by a message of 0.4 KB, up to 1,000", ("AsyncSqliteSaver",),
        turn=5,
    ),
    Case(
        *_LANGGRAPH, "ten nodes",
        "ainvoke of a graph of 10 trivial nodes, in a new thread",
        ("InMemorySaver", "AsyncSqliteSaver"), steps=200, turn=2, warm_up=10,
    ),
    Case(
        *_LANGGRAPH, "copy",
        "acopy_thread of a thread of 10,000 checkpoints", (), steps=50, turn=1, warm_up=2,
    ),
    Case(
        *_OPENAI, "add items", "add_items of 2 items of 0.4 KB",
        ("SQLiteSession", "SQLAlchemySession"),
    ),
    Case(
        *_OPENAI, "turn", "get_items of the newest 20, add_items of 2",
        ("SQLiteSession", "SQLAlchemySession"),
    ),
    Case(
        "crewai", "crewai", "crewai", "save state",
        "save_state of a flow whose state grows by a message of 0.4 KB, up to 20",
        ("SQLiteFlowPersistence",),
    ),
    Case(
        *_ADK, "append event", "append_event of 0.4 KB that changes the state",
        ("DatabaseSessionService", "SqliteSessionService"),
    ),
    Case(
        "pydantic_ai_harness", "pydantic-ai-harness", "pydantic-ai-harness", "step",
        "append_event, and save_snapshot of up to 20 messages of 0.4 KB",
        ("FileStepStore", "SqliteStepStore", "InMemoryStepStore"),
    ),
    Case(
        "agent_framework", "agent-framework", "agent-framework-core", "checkpoint",
        "save of a checkpoint with the newest 50 messages of 0.4 KB", ("FileCheckpointStorage",),
    ),
    Case(
        "strands", "strands", "strands-agents", "write",
        "write of a value of 5 to 100 KB, of 50 keys in turn", ("LocalFileStorage",),
    ),
    Case(
        "llama_index", "llama-index", "llama-index-workflows", "state",
        "set of the newest 50 messages of 0.4 KB in the state", ("InMemoryStateStore",),
    ),
)  # fmt: skip
