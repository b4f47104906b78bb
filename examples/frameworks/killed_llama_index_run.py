"""A LlamaIndex workflow is killed (SIGKILL) in its second step; another process goes on with it.

    python examples/frameworks/killed_llama_index_run.py

Needs livingai[llama-index]; no key, no network.
"""

import asyncio
import os
import signal
import subprocess
import sys

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.llama_index import LivingAIRuntime


class Planned(Event):
    """Where to go."""

    city: str


class Trip(Workflow):
    """Two steps."""

    dies = False

    @step
    async def plan(self, ctx: Context, ev: StartEvent) -> Planned:
        """In place of a slow and expensive model call."""
        print("  planning", flush=True)
        await ctx.store.set("plans", await ctx.store.get("plans", default=0) + 1)
        return Planned(city="Lisbon")

    @step
    async def book(self, ctx: Context, ev: Planned) -> StopEvent:
        """Book it."""
        if self.dies:
            print("  ... and here it is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return StopEvent(result=f"{ev.city}, planned {await ctx.store.get('plans')} time(s)")


async def live(dies: bool) -> None:
    """One life of the workflow."""
    async with CheckpointEngine(SQLiteStore("killed_llama_index_run.db")) as engine:
        runtime = LivingAIRuntime(engine)
        trip = Trip(runtime=runtime)
        trip.dies = dies
        ctx = None if dies else await runtime.resume(trip, "trip-1")
        print(f"  done: {await trip.run(ctx=ctx, run_id='trip-1')}", flush=True)


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
