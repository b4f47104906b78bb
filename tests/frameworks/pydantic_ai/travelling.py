"""A durable agent, in the test's process and in others."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from livingai.adapters.pydantic_ai import LivingAIDurability, durability
from tests.support.agent_main import AgentSide

#: The calls that the model makes, answer by answer.
SCRIPT = (("look", "weigh"), ("book",), ())


def die() -> None:
    """SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


class World:
    """What happened, in a file: it outlives the process."""

    def __init__(self, path: str, die_in: str = "") -> None:
        self.path = Path(path)
        self.die_in = die_in

    def happens(self, what: str) -> None:
        """Something has an effect."""
        with self.path.open("a") as file:
            file.write(f"{what}\n")
        if what == self.die_in:
            die()

    def counts(self) -> dict[str, int]:
        """How often each thing has happened."""
        return dict(Counter(self.path.read_text().split()))


def agent_of(world: World, **durable: Any) -> Agent[None, str]:
    """An agent that looks and weighs at the same time, and then books."""

    async def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(each, ModelResponse) for each in messages)
        world.happens(f"model-{turn}")
        calls = [
            ToolCallPart(name, {"city": "Oslo"}, tool_call_id=f"{turn}-{name}")
            for name in SCRIPT[turn]
        ]
        said = str(messages[-1].parts[-1].content)
        return ModelResponse(
            parts=calls or [TextPart(f"done: {said}")],
            usage=RequestUsage(input_tokens=10, output_tokens=turn),
        )

    agent = Agent(FunctionModel(model), name="travel", capabilities=[LivingAIDurability(**durable)])

    @agent.tool_plain(metadata={"livingai": {"idempotent": True}})
    async def look(city: str) -> str:
        """Look a city up; ends behind ``weigh``, which is called second."""
        await asyncio.sleep(0.01)
        world.happens("look")
        return f"{city} is far"

    @agent.tool_plain(metadata={"livingai": {"idempotent": True}})
    def weigh(city: str) -> dict[str, int]:
        """Weigh a suitcase."""
        world.happens("weigh")
        return {city: 20}

    @agent.tool_plain
    def book(city: str) -> str:
        """Book a journey."""
        world.happens("book")
        return f"{city} is booked"

    return agent


async def travel(engine: Any, world: World, run_id: str, **settings: Any) -> str:
    """Run the agent durably; what it says."""
    async with engine.run(run_id, **settings):
        result = await agent_of(world).run("plan")
    return f"{result.output} {result.run_id}"


def run(side: AgentSide, world: str, run_id: str, die_in: str = "", die_after: int = 0) -> str:
    """Run it, perhaps to be killed in something, or right after so many units."""
    count = 0
    units: Any = durability
    record = units.record_durable_unit

    def counting(*, executed: bool) -> None:
        nonlocal count
        record(executed=executed)
        count += 1
        if count == die_after:
            die()

    units.record_durable_unit = counting
    try:
        return asyncio.run(travel(side.engine, World(world, die_in), run_id))
    finally:
        units.record_durable_unit = record
