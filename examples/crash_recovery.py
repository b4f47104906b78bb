"""An agent is killed (SIGKILL) in the middle of its work; started again, it goes on there.

    python examples/crash_recovery.py

The steps that were done are not done again: they return what was recorded.
"""

import asyncio
import os
import signal
import subprocess
import sys

from livingai import CheckpointEngine, Run, SQLiteStore

CITIES = ["Lisbon", "Oslo", "Rome", "Quito"]


def research(city: str) -> str:
    """In place of a slow and expensive model call."""
    print(f"  process {os.getpid()}: researching {city}", flush=True)
    return f"{city} is worth a visit"


async def agent(run: Run, die_after: str | None) -> list[str]:
    """Researches city after city, with a checkpoint after each."""
    notes: list[str] = []
    for city in CITIES:
        notes.append(await run.step("research", research, city))
        run.state = {"notes": notes}
        await run.checkpoint()
        if city == die_after:
            print("  ... and here it is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    return notes


async def live(execution: str, die_after: str | None) -> None:
    """One life of the agent."""
    async with CheckpointEngine(SQLiteStore("crash_recovery.db")) as engine:
        async with engine.run(execution) as run:
            print(f"  process {os.getpid()}: resumed={run.resumed}", flush=True)
            if run.restored_state:
                print(f"  found {len(run.restored_state['notes'])} notes of the killed process")
            notes = await agent(run, die_after)
        print(f"  done: {len(notes)} notes, the first is {notes[0]!r}", flush=True)


def main() -> None:
    """Start the agent twice, as processes of their own."""
    execution = f"travel-{os.getpid()}"
    for title, die_after in (("first life", "Oslo"), ("second life", "")):
        print(title, flush=True)
        command = [sys.executable, __file__, execution, die_after]
        code = subprocess.run(command, check=False).returncode
        print(f"  exit code {code}", flush=True)
    print(f"shown: killed once, and each of {len(CITIES)} cities was researched once")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(live(sys.argv[1], sys.argv[2] or None))
    else:
        main()
