"""What would the agent have done, had a tool said something else?

    python examples/counterfactual.py

COUNTERFACTUAL replaces one result and runs again what depends on it; the rest is served.
"""

import asyncio
import os

from livingai import CheckpointEngine, NodeType, ReplayMode, ReplaySession, Run, SQLiteStore


def weather(city: str) -> dict[str, object]:
    """A tool."""
    print(f"  asking for the weather in {city}")
    return {"city": city, "sky": "rain", "celsius": 14}


def hotel(city: str) -> str:
    """A tool that has nothing to do with the weather."""
    print(f"  looking for a hotel in {city}")
    return "Hotel Aurora"


def plan_day(report: dict[str, object]) -> str:
    """The reasoning."""
    print("  thinking about the day")
    return "museum" if report["sky"] == "rain" else "boat trip"


def write_plan(day: str, bed: str) -> str:
    """More reasoning."""
    print("  writing the plan")
    return f"{day} by day, {bed} by night"


async def agent(run: Run) -> str:
    """Plans a day in Lisbon."""
    report = await run.tool("weather", weather, "Lisbon")
    bed = await run.tool("hotel", hotel, "Lisbon")
    day = await run.step("plan_day", plan_day, report)
    run.state = await run.step("write_plan", write_plan, day, bed)
    await run.checkpoint()
    return str(run.state)


async def main() -> None:
    """Record a rainy day, then ask what a sunny one would have been like."""
    async with CheckpointEngine(SQLiteStore("counterfactual.db")) as engine:
        execution = f"lisbon-{os.getpid()}"
        print("the recorded run")
        async with engine.run(execution) as run:
            print(f"  -> {await agent(run)}")
        nodes = await engine.nodes(execution)
        asked = next(node for node in nodes if node.type is NodeType.TOOL)

        print("and if the sun had shone?")
        result = await ReplaySession(engine, execution).run(
            agent,
            mode=ReplayMode.COUNTERFACTUAL,
            node_id=asked.id,
            overrides={"output": {"city": "Lisbon", "sky": "sun", "celsius": 24}},
        )
        print(f"  -> {result.output}")
        print("  " + result.report().replace("\n", "\n  "))
        ran = [
            node.name for node in result.nodes if node.how == "run" and node.name != "checkpoint"
        ]
        print(f"shown: one result replaced, {' and '.join(ran)} thought over, no tool called")


if __name__ == "__main__":
    asyncio.run(main())
