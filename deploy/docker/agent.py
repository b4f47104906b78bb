"""An agent beside a service of another container: it saves to the shared state directory, and never
starts a service of its own.

LIVINGAI_STORE is the store's URL, LIVINGAI_DIRECTORY the state directory, both as the service has
them. Ended and started again, it goes on where it was.
"""

import asyncio
import os
import signal

from livingai import CheckpointEngine, open_store


async def plan(step: int) -> str:
    """A model call, say."""
    await asyncio.sleep(0.05)
    return f"idea {step}"


async def main() -> None:
    """Work until SIGTERM, or for AGENT_STEPS steps."""
    steps = int(os.environ.get("AGENT_STEPS", "1000000"))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    store = open_store(os.environ["LIVINGAI_STORE"])
    directory = os.environ["LIVINGAI_DIRECTORY"]
    async with (
        CheckpointEngine(store, directory=directory, service="attach") as engine,
        engine.run("compose-agent") as run,
    ):
        run.state = run.state or []
        while len(run.state) < steps and not ended.is_set():
            run.state.append(await run.step("plan", plan, len(run.state)))
            await run.checkpoint()
        print(f"{len(run.state)} steps", flush=True)


asyncio.run(main())
