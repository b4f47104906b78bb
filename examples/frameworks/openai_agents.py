"""OpenAI Agents SDK: a run is killed between its tool and its history, and goes on elsewhere.

    pip install "livingai[openai-agents]"
    python examples/frameworks/openai_agents.py

No key, no network: the model is the SDK's own ``ScriptedModel``. The first process charges a card
and is killed (SIGKILL) before the SDK has stored the tool's output. The second one resumes the
conversation. Its model asks for the charge again, under another call id; the recorded ticket is
served, and the card is charged once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.openai_agents import (
    LivingAIHooks,
    LivingAISession,
    ToolLedger,
    durable_tool,
)


class Killed(LivingAISession):
    """A session whose process dies as it is about to store a tool's output."""

    async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
        if any(item.get("type") == "function_call_output" for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        await super().add_items(items, wrapper=wrapper)


async def serve(folder: Path, call_id: str, *, dies: bool) -> None:
    """One process's part of the conversation."""

    @function_tool
    def charge_card(amount: int) -> str:
        with open(folder / "charges.txt", "a") as charges:
            charges.write(f"{amount}\n")
        return f"ticket for {amount}"

    async with CheckpointEngine(SQLiteStore(folder / "agent.db")) as engine:
        session = (Killed if dies else LivingAISession)(engine, "customer-7")
        model = ScriptedModel([
            [function_call("charge_card", {"amount": 5}, call_id=call_id)],
            [assistant_message("Your card was charged, here is your ticket.")],
        ])  # fmt: skip
        tools: list[Any] = [durable_tool(charge_card, ToolLedger(session))]
        agent = Agent(name="cashier", model=model, tools=tools)
        async with LivingAIHooks(engine, "customer-7") as hooks:
            result = await Runner.run(
                agent, "Charge 5." if dies else [], session=session, hooks=hooks,
                run_config=RunConfig(tracing_disabled=True),
            )  # fmt: skip
        print("answer:", result.final_output)
        kinds = [item.get("type", item.get("role")) for item in await session.get_items()]
        print("history:", ", ".join(kinds))
        print("nodes recorded:", len(await engine.nodes(hooks.execution_id)))


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(serve(Path(sys.argv[1]), "call-1", dies=True))
        return
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        first = subprocess.run([sys.executable, __file__, name], check=False)
        print("the first process ended with", first.returncode)
        asyncio.run(serve(folder, "call-2", dies=False))
        charges = (folder / "charges.txt").read_text().split()
        print("shown: the card was charged", len(charges), "time(s):", charges)
        assert charges == ["5"]


if __name__ == "__main__":
    main()
