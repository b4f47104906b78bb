"""Workflows and agents, and what other processes do with them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    Executor,
    Message,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
)
from pydantic import BaseModel

from livingai import CheckpointEngine
from livingai.adapters.agent_framework import LivingAICheckpointStorage, LivingAIHistoryProvider
from tests.support.agent_main import AgentSide

STEPS = ("one", "two", "three")
NAME = "steps"


class Color(Enum):
    RED = "red"


class Part(BaseModel):
    name: str


@dataclass
class Order:
    """What steps hand on."""

    done: list[str]
    parts: tuple[Part, ...] = ()
    color: Color = Color.RED
    total: int = field(init=False, default=0)


class Odd:
    """Nothing that can be stored."""


def mark(path: Path) -> None:
    """Note that something has begun, once more."""
    with open(path, "a", encoding="utf-8") as marks:
        marks.write("x")


class Step(Executor):
    """Notes in a folder that it has begun, and hands the order on."""

    def __init__(self, name: str, folder: Path, die: bool) -> None:
        super().__init__(id=name)
        self.folder = folder
        self.die = die
        self.count = 0

    @handler
    async def work(self, order: Order, ctx: WorkflowContext[Order, Order]) -> None:
        """Do this step."""
        mark(self.folder / self.id)
        if self.die:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        made = Order([*order.done, self.id], (*order.parts, Part(name=self.id)))
        made.total = order.total + self.count
        if self.id == STEPS[-1]:
            await ctx.yield_output(made)
        else:
            await ctx.send_message(made)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"count": self.count}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def storage_of(engine: CheckpointEngine) -> LivingAICheckpointStorage:
    return LivingAICheckpointStorage(engine, allowed_types=[Order, Part, Color])


def steps_workflow(engine: CheckpointEngine, folder: Path, die_in: str = "") -> Workflow:
    one, two, three = (Step(name, folder, name == die_in) for name in STEPS)
    builder = WorkflowBuilder(
        start_executor=one, checkpoint_storage=storage_of(engine), name=NAME, output_from=[three]
    )
    return builder.add_edge(one, two).add_edge(two, three).build()


def run(agent: AgentSide, folder: str, die_in: str = "", resume: bool = False) -> Any:
    async def work() -> Any:
        workflow = steps_workflow(agent.engine, Path(folder), die_in)
        if resume:
            latest = await storage_of(agent.engine).get_latest(workflow_name=NAME)
            assert latest is not None
            result = await workflow.run(checkpoint_id=latest.checkpoint_id)
        else:
            result = await workflow.run(Order([]))
        [made] = result.get_outputs()
        return [made.done, [part.name for part in made.parts], made.total, made.color.value]

    return asyncio.run(work())


def ids(agent: AgentSide) -> list[str]:
    return asyncio.run(storage_of(agent.engine).list_checkpoint_ids(workflow_name=NAME))


class Echo(BaseChatClient):
    """A model that says how many messages it was given."""

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **more: Any
    ) -> Any:
        async def answer() -> ChatResponse:
            return ChatResponse(messages=Message("assistant", [f"{len(messages)} messages"]))

        assert not stream
        return answer()


def turn(agent: AgentSide, session_id: str, text: str, die: bool = False) -> str:
    async def work() -> str:
        made = Agent(client=Echo(), context_providers=[LivingAIHistoryProvider(agent.engine)])
        session = made.create_session(session_id=session_id)
        return str((await made.run(text, session=session)).text)

    answer = asyncio.run(work())
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


def say_many(agent: AgentSide, session_id: str, name: str, count: int) -> None:
    async def work() -> None:
        history = LivingAIHistoryProvider(agent.engine)
        for number in range(count):
            both = [Message("user", [f"{name} {number}"]), Message("assistant", [f"re {name}"])]
            await history.save_messages(session_id, both)

    asyncio.run(work())


def texts(agent: AgentSide, session_id: str) -> list[str]:
    messages = asyncio.run(LivingAIHistoryProvider(agent.engine).get_messages(session_id))
    return [message.text for message in messages]
