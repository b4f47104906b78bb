"""What processes of the tests do with the SDK: called by the test, with the process's engine."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from agents import Agent, RunConfig, Runner, UserError, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from livingai import ExecutionNode, Resolution
from livingai.adapters.openai_agents import (
    LivingAIHooks,
    LivingAISession,
    ToolLedger,
    durable_tool,
    load_run_state,
    save_run_state,
)
from livingai.errors import AlreadyResumedError, InDoubtError
from tests.support.agent_main import AgentSide

QUIET = RunConfig(tracing_disabled=True)


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call_items(call_id: str, output: str = "ok") -> list[dict[str, Any]]:
    """A function call and its output."""
    return [
        {"type": "function_call", "call_id": call_id, "name": "charge", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": output},
    ]


def die() -> None:
    """kill -9 for this process."""
    os.kill(os.getpid(), signal.SIGKILL)


# -- sessions --


def add(agent: AgentSide, session_id: str, texts: list[str]) -> None:
    """Add messages, one by one."""

    async def go() -> None:
        session = LivingAISession(agent.engine, session_id)
        for text in texts:
            await session.add_items([message(text)])

    asyncio.run(go())


def add_and_die(agent: AgentSide, session_id: str, texts: list[str]) -> None:
    """Add messages, and be killed as soon as the last of them is acknowledged."""
    add(agent, session_id, texts)
    die()


def pop_all(agent: AgentSide, session_id: str) -> list[str]:
    """Pop until there is nothing left."""

    async def go() -> list[str]:
        session = LivingAISession(agent.engine, session_id)
        texts = []
        while (item := await session.pop_item()) is not None:
            texts.append(item["content"])
        return texts

    return asyncio.run(go())


def contents(agent: AgentSide, session_id: str) -> list[str]:
    """The messages of a session."""
    session = LivingAISession(agent.engine, session_id)
    return [item["content"] for item in asyncio.run(session.get_items())]


# -- runs with a tool --


class DyingSession(LivingAISession):
    """Its process dies before it stores the output of a tool."""

    async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
        if any(item.get("type") == "function_call_output" for item in items):
            die()
        await super().add_items(items, wrapper=wrapper)


def charging(folder: str, *, dies: bool = False) -> Any:
    """A tool with an effect that can be counted: a line in a file."""

    @function_tool
    def charge(amount: int) -> str:
        with open(Path(folder) / "charges", "a") as file:
            file.write(f"{amount}\n")
        if dies:
            die()
        return f"ticket for {amount}"

    return charge


def charge_run(
    agent: AgentSide,
    folder: str,
    session_id: str,
    call_id: str,
    *,
    dies: str = "",
    text: str = "charge 5",
    resolved: str | None = None,
    restore: bool = False,
) -> dict[str, Any]:
    """A run in which the model calls the tool and then says what it got. ``dies``: in the tool, or
    before its output is stored (session)."""

    def resolver(node: ExecutionNode) -> Resolution:
        assert node.input["args"] == ['{"amount":5}']
        return Resolution.done(resolved)

    async def go() -> dict[str, Any]:
        kind = DyingSession if dies == "session" else LivingAISession
        session = kind(agent.engine, session_id)
        ledger = ToolLedger(session, resolver=None if resolved is None else resolver)
        restored = await ledger.restore_history() if restore else 0
        steps: list[Any] = [[assistant_message("done")]]
        if not restore:
            steps.insert(0, [function_call("charge", {"amount": 5}, call_id=call_id)])
        model = ScriptedModel(steps)
        tool = durable_tool(charging(folder, dies=dies == "tool"), ledger)
        payer = Agent(name="payer", model=model, tools=[tool])
        given: Any = text or []
        try:
            async with LivingAIHooks(agent.engine, session_id) as hooks:
                result = await Runner.run(
                    payer, given, session=session, hooks=hooks, run_config=QUIET
                )
        except UserError as error:
            if not isinstance(error.__cause__, InDoubtError):
                raise
            return {"in_doubt": str(error.__cause__), "items": await session.get_items()}
        return {
            "output": result.final_output,
            "items": await session.get_items(),
            "restored": restored,
        }

    return asyncio.run(go())


# -- paused runs --


def _clerk(folder: str, agent: AgentSide, key: str, steps: list[Any]) -> Agent[Any]:
    ledger = ToolLedger(agent.engine, key)
    tool = charging(folder)
    tool.needs_approval = True
    return Agent(name="clerk", model=ScriptedModel(steps), tools=[durable_tool(tool, ledger)])


def pause_and_die(agent: AgentSide, folder: str, key: str) -> None:
    """Begin a run that waits for an approval, store it, and be killed."""

    async def go() -> None:
        steps = [[function_call("charge", {"amount": 5}, call_id="call-1")]]
        clerk = _clerk(folder, agent, key, steps)
        result = await Runner.run(clerk, "charge 5", run_config=QUIET)
        assert [item.tool_name for item in result.interruptions] == ["charge"]
        await save_run_state(agent.engine, key, result)
        die()

    asyncio.run(go())


def approve(
    agent: AgentSide, folder: str, key: str, *, again: bool = False, dies: bool = False
) -> str:
    """Load a paused run, approve what waits, and go on; the answer, or "refused"."""

    async def go() -> str:
        clerk = _clerk(folder, agent, key, [[assistant_message("paid")]])
        try:
            state = await load_run_state(agent.engine, key, clerk, again=again)
        except AlreadyResumedError:
            return "refused"
        for item in state.get_interruptions():
            state.approve(item)

        class Dies(LivingAIHooks):
            async def on_tool_end(self, *arguments: Any) -> None:
                if dies:
                    die()
                await super().on_tool_end(*arguments)

        result = await Runner.run(clerk, state, run_config=QUIET, hooks=Dies(agent.engine, key))
        return str(result.final_output)

    return asyncio.run(go())
