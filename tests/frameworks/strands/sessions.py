"""What other processes do with a storage and with agents."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from typing import Any

from strands import Agent, tool
from strands.models import Model
from strands.session import SnapshotSessionManager

from livingai import CheckpointEngine
from livingai.adapters.strands import LivingAIStorage
from tests.support.agent_main import AgentSide


class Scripted(Model):
    """A model that calls the tool ``remember`` with each message, and then answers."""

    stateful = False

    def update_config(self, **model_config: Any) -> None:
        """Has none."""

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "scripted"}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def stream(
        self, messages: list[Any], *args: Any, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        last = messages[-1]["content"][0]
        yield {"messageStart": {"role": "assistant"}}
        if "text" in last:
            use = {"name": "remember", "toolUseId": f"use-{len(messages)}"}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": "{}"}}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "tool_use"}}
        else:
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": f"answer {len(messages)}"}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}


def strands_agent(engine: CheckpointEngine, *, die: bool = False) -> Agent:
    """An agent that is saved behind each message; with ``die`` its tool kills the process."""

    @tool
    def remember() -> str:
        """Remember."""
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        return "remembered"

    session = SnapshotSessionManager(
        "session-1", storage=LivingAIStorage(engine), save_latest_on="message"
    )
    return Agent(
        model=Scripted(), tools=[remember], session_manager=session, callback_handler=None,
        agent_id="a",
    )  # fmt: skip


def turn(agent: AgentSide, text: str, die: bool = False) -> int:
    """One turn of the session; how many messages it has then."""
    made = strands_agent(agent.engine, die=die)
    made(text)
    return len(made.messages)


def write(agent: AgentSide, key: str, data: bytes, die: bool = False) -> None:
    asyncio.run(LivingAIStorage(agent.engine).write(key, data))
    if die:
        os.kill(os.getpid(), signal.SIGKILL)


def write_many(agent: AgentSide, key: str, name: str, count: int) -> None:
    async def work() -> None:
        storage = LivingAIStorage(agent.engine)
        for number in range(count):
            await storage.write(key, f"{name}-{number}".encode())
            await storage.write(f"{name}/{number}", b"own")

    asyncio.run(work())


def read(agent: AgentSide, key: str) -> bytes | None:
    return asyncio.run(LivingAIStorage(agent.engine).read(key))


def keys(agent: AgentSide, prefix: str) -> list[str]:
    return asyncio.run(LivingAIStorage(agent.engine).list(prefix))
