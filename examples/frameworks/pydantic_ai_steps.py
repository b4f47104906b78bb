"""An agent of Pydantic AI is killed (SIGKILL) as it books; another process finds out, and goes on.

    python examples/frameworks/pydantic_ai_steps.py

The model is a function in this file, so it needs no key and no network.
"""

import asyncio
import os
import signal
import subprocess
import sys

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_harness.step_persistence import StepPersistence, StepStore, continue_run

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.pydantic_ai_harness import LivingAIStepStore


def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """In place of a model: looks the city up, and then books, and then says so."""
    returned = [part for each in messages for part in each.parts if part.part_kind == "tool-return"]
    if len(returned) == 2:
        return ModelResponse(parts=[TextPart(f"done: {returned[1].content}")])
    name = ("look", "book")[len(returned)]
    return ModelResponse(parts=[ToolCallPart(name, {"city": "Oslo"})])


def agent_of(store: StepStore, run_id: str, dies: bool) -> Agent[None, str]:
    """An agent whose run is recorded."""
    persistence = StepPersistence(store=store, run_id=run_id)
    agent = Agent(FunctionModel(model), capabilities=[persistence])

    @agent.tool_plain
    def look(city: str) -> str:
        """Look a city up, which is slow and expensive."""
        print(f"  process {os.getpid()}: looking {city} up", flush=True)
        return f"{city} is worth a visit"

    @agent.tool_plain
    def book(city: str) -> str:
        """Book a journey."""
        if dies:
            print("  ... and here it is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        print(f"  process {os.getpid()}: booking {city}", flush=True)
        return f"{city} is booked"

    return agent


async def live(dies: bool) -> None:
    """One life: the first run, or one that continues it."""
    async with CheckpointEngine(SQLiteStore("runs.db")) as engine:
        store = LivingAIStepStore(engine)
        if dies:
            await agent_of(store, "first", dies).run("Book a journey to Oslo")
        for effect in await store.list_unresolved_tool_effects(run_id="first"):
            print(f"  {effect.tool_name} was begun, and nobody knows what came of it")
        history = await continue_run(store, run_id="first")
        result = await agent_of(store, "second", dies).run(message_history=history)
        print(f"  {result.output}", flush=True)


def main() -> None:
    """Start the agent twice, as processes of their own."""
    for title, dies in (("first life", "dies"), ("second life", "")):
        print(title, flush=True)
        subprocess.run([sys.executable, __file__, dies], check=False)
    print("shown: killed once, and the city was looked up once")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(live(bool(sys.argv[1])))
    else:
        main()
