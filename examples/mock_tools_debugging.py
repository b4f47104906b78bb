"""An agent gave a wrong answer yesterday. What does the corrected one say to the same tool results?

    python examples/mock_tools_debugging.py

MOCK_TOOLS runs the reasoning again and serves what the tools returned then: no tool is called.
"""

import asyncio
import os
from collections.abc import Callable

from livingai import CheckpointEngine, ReplayMode, ReplaySession, Run, SQLiteStore


def search_flights(origin: str, target: str) -> list[dict[str, str]]:
    """A tool: slow, paid for, and with another answer tomorrow."""
    print(f"  searching flights {origin} - {target}")
    return [
        {"flight": "LA 101", "price": "1040"},
        {"flight": "LA 205", "price": "980"},
        {"flight": "LA 309", "price": "1210"},
    ]


def book(flight: str) -> str:
    """A tool with a side effect."""
    print(f"  booking {flight}")
    return f"booked {flight}"


def cheapest_with_bug(flights: list[dict[str, str]]) -> str:
    """Compares texts: "1040" is less than "980"."""
    return min(flights, key=lambda flight: flight["price"])["flight"]


def cheapest_fixed(flights: list[dict[str, str]]) -> str:
    """Compares numbers."""
    return min(flights, key=lambda flight: int(flight["price"]))["flight"]


async def agent(run: Run, choose: Callable[[list[dict[str, str]]], str] = cheapest_with_bug) -> str:
    """Finds and books the cheapest flight."""
    flights = await run.tool("search_flights", search_flights, "JFK", "SEA")
    flight = await run.step("choose", choose, flights)
    return await run.tool("book", book, flight)


async def fixed_agent(run: Run) -> str:
    """The same agent, corrected."""
    return await agent(run, cheapest_fixed)


async def main() -> None:
    """Record a run, then replay it with the program as it was, and as it is now."""
    async with CheckpointEngine(SQLiteStore("debugging.db")) as engine:
        execution = f"flight-{os.getpid()}"
        print("the recorded run")
        async with engine.run(execution) as run:
            print(f"  {await agent(run)}, though LA 205 is cheaper")
        session = ReplaySession(engine, execution)
        print("replayed as it was: no tool is called")
        same = await session.run(agent, mode=ReplayMode.MOCK_TOOLS)
        print(f"  same: {same.same}")
        print("replayed with the correction: no tool is called")
        result = await session.run(fixed_agent, mode=ReplayMode.MOCK_TOOLS)
        print("  " + result.report().replace("\n", "\n  "))
        print("shown: the corrected agent would have booked LA 205; nothing was searched or booked")


if __name__ == "__main__":
    asyncio.run(main())
