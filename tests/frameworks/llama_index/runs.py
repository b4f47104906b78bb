"""Workflows, and what other processes do with them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from workflows import Context, Workflow, step
from workflows.context.state_store_integration import StateRecord
from workflows.events import Event, StartEvent, StopEvent

from livingai import CheckpointEngine
from livingai.adapters.llama_index import LivingAIRuntime, LivingAIStateStorage
from livingai.errors import FencedError
from tests.support.agent_main import AgentSide
from tests.support.waiting import until

STEPS = ("one", "two", "three")


class Two(Event):
    """Behind step one."""


class Three(Event):
    """Behind step two."""


def mark(path: Path) -> None:
    """Note that something has begun, once more."""
    with open(path, "a", encoding="utf-8") as marks:
        marks.write("x")


class Steps(Workflow):
    """Three steps; each notes in a folder that it has begun, and in the state that it has ended."""

    folder: Path
    die_in: str = ""
    wait_in: str = ""

    async def work(self, ctx: Context[Any], name: str) -> None:
        mark(self.folder / name)
        if name == self.die_in:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == self.wait_in:
            await asyncio.to_thread(until, (self.folder / "go on").exists, what="a sign to go on")
        done = await ctx.store.get("done", default=[])
        await ctx.store.set("done", [*done, name])

    @step
    async def one(self, ctx: Context[Any], ev: StartEvent) -> Two:
        """The first step."""
        await self.work(ctx, "one")
        return Two()

    @step
    async def two(self, ctx: Context[Any], ev: Two) -> Three:
        """The second step."""
        await self.work(ctx, "two")
        return Three()

    @step
    async def three(self, ctx: Context[Any], ev: Three) -> StopEvent:
        """The third step."""
        await self.work(ctx, "three")
        return StopEvent(result=await ctx.store.get("done"))


def steps_workflow(engine: CheckpointEngine, folder: Path) -> tuple[LivingAIRuntime, Steps]:
    runtime = LivingAIRuntime(engine)
    workflow = Steps(runtime=runtime, timeout=60)
    workflow.folder = folder
    return runtime, workflow


def run(
    agent: AgentSide, run_id: str, folder: str, die_in: str = "", wait_in: str = "",
    resume: bool = False,
) -> Any:  # fmt: skip
    async def work() -> Any:
        runtime, workflow = steps_workflow(agent.engine, Path(folder))
        workflow.die_in, workflow.wait_in = die_in, wait_in
        ctx = await runtime.resume(workflow, run_id) if resume else None
        try:
            return await workflow.run(ctx=ctx, run_id=run_id)
        except FencedError:
            return "fenced"

    return asyncio.run(work())


def save_many(agent: AgentSide, run_id: str, name: str, count: int) -> None:
    async def work() -> None:
        storage = LivingAIStateStorage(agent.engine, run_id)
        for number in range(count):
            await storage.save(StateRecord(data=f"{name}-{number}"))

    asyncio.run(work())


def save_and_die(agent: AgentSide, run_id: str, data: str) -> None:
    save_many(agent, run_id, data, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def load(agent: AgentSide, run_id: str) -> Any:
    record = asyncio.run(LivingAIStateStorage(agent.engine, run_id).load())
    return None if record is None else record.data
