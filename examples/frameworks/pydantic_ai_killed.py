"""An agent of Pydantic AI is killed (SIGKILL) behind a booking; another process goes on with it.

    python examples/frameworks/pydantic_ai_killed.py

The model is a function in this file, so it needs no key and no network.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.pydantic_ai import LivingAIDurability


def agent_of(dies: bool) -> Agent[None, str]:
    """An agent that books, and then says so."""

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answers = sum(isinstance(each, ModelResponse) for each in messages)
        print(f"  process {os.getpid()}: model request {answers + 1}", flush=True)
        if answers == 0:
            return ModelResponse(parts=[ToolCallPart("book", {"city": "Oslo"})])
        if dies:
            print("  ... and here it is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(model), name="travel", capabilities=[LivingAIDurability()])

    @agent.tool_plain
    def book(city: str) -> str:
        """Book a journey."""
        print(f"  process {os.getpid()}: booking {city}", flush=True)
        with Path("bookings").open("a") as file:
            file.write(f"{city}\n")
        return f"{city} is booked"

    return agent


async def live(dies: bool) -> None:
    """One life of the program."""
    async with CheckpointEngine(SQLiteStore("trips.db")) as engine, engine.run("trip-7"):
        result = await agent_of(dies).run("Book a journey to Oslo")
        print(f"  {result.output}", flush=True)


def main() -> None:
    """Start the program twice, as processes of their own."""
    for title, dies in (("first life", "dies"), ("second life", "")):
        print(title, flush=True)
        subprocess.run([sys.executable, __file__, dies], check=False)
    bookings = Path("bookings").read_text().split()
    print(f"shown: killed once, and {len(bookings)} booking")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(live(bool(sys.argv[1])))
    else:
        main()
