"""Agents of Pydantic AI, in the test's process and in others."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai_harness.step_persistence import StepPersistence

from livingai.adapters.pydantic_ai_harness import LivingAIStepStore
from tests.support.agent_main import AgentSide


def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Calls the tool ``look`` and then ``book``, and then says that it is done."""
    returned = sum(part.part_kind == "tool-return" for each in messages for part in each.parts)
    if returned == 2:
        return ModelResponse(parts=[TextPart("done")])
    name = ("look", "book")[returned]
    return ModelResponse(
        parts=[ToolCallPart(name, {"city": "Oslo"}, tool_call_id=f"call-{returned}")]
    )


def agent_of(store: Any, die_in: str = "", **persistence: Any) -> Agent[None, str]:
    """An agent whose run ``store`` records."""
    agent = Agent(
        FunctionModel(scripted), capabilities=[StepPersistence(store=store, **persistence)]
    )

    @agent.tool_plain
    def look(city: str) -> str:
        """Look a city up."""
        return f"{city} is far"

    @agent.tool_plain
    def book(city: str) -> str:
        """Book a journey."""
        if die_in == "book":
            os.kill(os.getpid(), signal.SIGKILL)
        return f"booked {city}"

    return agent


def run(side: AgentSide, run_id: str, die_in: str) -> None:
    """Run the agent, which may kill this process."""
    asyncio.run(agent_of(LivingAIStepStore(side.engine), die_in, run_id=run_id).run("plan"))


def register(side: AgentSide, run_id: str, registration_id: str | None) -> str:
    """Register a run; the error, if there is one."""
    from pydantic_ai_harness.step_persistence import RunRecord

    record = RunRecord(run_id=run_id, registration_id=registration_id, agent_name=str(os.getpid()))
    try:
        asyncio.run(LivingAIStepStore(side.engine).register_run(record))
    except ValueError as error:
        return str(error)
    return ""
