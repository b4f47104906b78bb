"""The adapter of the OpenAI Agents SDK, for :class:`~livingai.testing.AdapterConformance`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agents import Agent, RunConfig, Runner, UserError, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from livingai import CheckpointEngine
from livingai.adapters.names import execution_name
from livingai.adapters.openai_agents import (
    LivingAIHooks,
    LivingAISession,
    ToolLedger,
    durable_tool,
)
from livingai.errors import InDoubtError
from livingai.testing import AdapterHarness


class OpenAIHarness(AdapterHarness):
    """Threads are sessions; a run is an agent with one tool."""

    def __init__(self, engine: CheckpointEngine) -> None:
        super().__init__(engine)
        self._loop = asyncio.new_event_loop()

    def write(self, thread: str, text: str) -> None:
        """A message of the user's."""
        item: Any = {"role": "user", "content": text}
        self._loop.run_until_complete(self._session(thread).add_items([item]))

    def read(self, thread: str) -> list[str]:
        """What the session would show the model."""
        items: list[Any] = self._loop.run_until_complete(self._session(thread).get_items())
        return [item["content"] for item in items]

    def run(self, thread: str, effect: Callable[[], str]) -> str:
        """The scripted model calls the tool, and then says that it is done."""

        @function_tool
        def act() -> str:
            """Has the effect."""
            return effect()

        async def go() -> str:
            session = self._session(thread)
            tool = durable_tool(act, ToolLedger(session))
            model = ScriptedModel(
                [[function_call("act", {}, call_id="call-1")], [assistant_message("effected")]]
            )
            agent = Agent(name="actor", model=model, tools=[tool])
            async with LivingAIHooks(self.engine, thread) as hooks:
                result = await Runner.run(
                    agent, "act", session=session, hooks=hooks,
                    run_config=RunConfig(tracing_disabled=True),
                )  # fmt: skip
            return str(result.final_output)

        try:
            return self._loop.run_until_complete(go())
        except UserError as error:  # the SDK's, around what a tool raises
            if isinstance(error.__cause__, InDoubtError):
                raise error.__cause__ from None
            raise

    def execution(self, thread: str) -> str:
        """Of the hooks."""
        return execution_name("openai-agents", "run", thread)

    def _session(self, thread: str) -> LivingAISession:
        return LivingAISession(self.engine, thread)
