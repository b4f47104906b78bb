"""A workflow of Microsoft Agent Framework is killed (SIGKILL); another process goes on with it.

    python examples/frameworks/killed_agent_framework_workflow.py

Needs livingai[agent-framework]; no key, no network.
"""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.agent_framework import LivingAICheckpointStorage


@dataclass
class Trip:
    """What the steps hand on: a class of this program, so the storage is told of it."""

    city: str


class Plan(Executor):
    """The first step."""

    @handler
    async def plan(self, wish: str, ctx: WorkflowContext[Trip]) -> None:
        """In place of a slow and expensive model call."""
        print("  planning", flush=True)
        await ctx.send_message(Trip(city="Lisbon"))


class Book(Executor):
    """The second step."""

    dies = False

    @handler
    async def book(self, trip: Trip, ctx: WorkflowContext[None, str]) -> None:
        """Book it."""
        if self.dies:
            print("  ... and here it is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        await ctx.yield_output(f"{trip.city} is booked")


def trip_workflow(storage: LivingAICheckpointStorage, dies: bool) -> Workflow:
    """The workflow; it has a checkpoint behind each superstep."""
    plan, book = Plan(id="plan"), Book(id="book")
    book.dies = dies
    builder = WorkflowBuilder(
        start_executor=plan, checkpoint_storage=storage, name="trip", output_from=[book]
    )
    return builder.add_edge(plan, book).build()


async def live(dies: bool) -> None:
    """One life of the workflow."""
    async with CheckpointEngine(SQLiteStore("killed_workflow.db")) as engine:
        storage = LivingAICheckpointStorage(engine, allowed_types=[Trip])
        workflow = trip_workflow(storage, dies)
        latest = await storage.get_latest(workflow_name="trip")
        if latest is None:
            result = await workflow.run("somewhere sunny")
        else:
            result = await workflow.run(checkpoint_id=latest.checkpoint_id)
        print(f"  done: {result.get_outputs()[0]}", flush=True)


def main() -> None:
    """Start the workflow twice, as processes of their own."""
    for title, dies in (("first life", "dies"), ("second life", "")):
        print(title, flush=True)
        code = subprocess.run([sys.executable, __file__, "live", dies], check=False).returncode
        print(f"  exit code {code}", flush=True)
    print("shown: killed once, and planned once")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(live(bool(sys.argv[2])))
    else:
        main()
