"""Durable tools, paused runs and hooks in one process, with the SDK's own runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents")

from agents import (
    Agent,
    FunctionTool,
    RunContextWrapper,
    Runner,
    ToolOutputImage,
    ToolOutputText,
    UserError,
    function_tool,
    handoff,
)
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from pydantic import BaseModel

from livingai import CheckpointEngine, ExecutionNode, NodeType, Resolution, Status
from livingai.adapters.names import execution_name
from livingai.adapters.openai_agents import (
    LivingAIHooks,
    LivingAISession,
    ToolLedger,
    durable_tool,
    load_run_state,
    save_run_state,
)
from livingai.errors import (
    AlreadyResumedError,
    ConfigurationError,
    CorruptRowError,
    ExecutionNotFoundError,
    InDoubtError,
)
from tests.frameworks.openai_agents.programs import QUIET, call_items, message
from tests.support.place import Place


@pytest.fixture
async def engine(served: Place) -> AsyncIterator[CheckpointEngine]:
    async with served.engine() as engine:
        yield engine


def counted(made: list[Any], result: Callable[[int], Any] = str) -> FunctionTool:
    @function_tool(name_override="charge", failure_error_function=None)
    async def charge(amount: int) -> Any:
        made.append(amount)
        return result(amount)

    return charge


async def run(
    tool: FunctionTool, *calls: tuple[str, str], session: Any = None, hooks: Any = None
) -> list[Any]:
    """A run that makes these calls at once; the outputs that the model is shown."""
    asked = [function_call("charge", arguments, call_id=name) for name, arguments in calls]
    model = ScriptedModel([asked, [assistant_message("done")]])
    agent = Agent(name="payer", model=model, tools=[tool])
    await Runner.run(agent, "pay", session=session, hooks=hooks, run_config=QUIET)
    return [i["output"] for i in model.calls[-1].input if i.get("type") == "function_call_output"]


# -- at most once --


async def test_a_call_is_made_once_and_served_then(engine: CheckpointEngine) -> None:
    made: list[Any] = []
    for _ in range(3):
        tool = durable_tool(counted(made), ToolLedger(engine, "once"))
        assert await run(tool, ("c1", '{"amount":5}')) == ["5"]
    assert made == [5]
    again = durable_tool(counted(made), ToolLedger(engine, "once"))
    assert await run(again, ("c1", '{ "amount" : 5 }')) == ["5"], "the same JSON"
    assert await run(again, ("c1", '{"amount":6}')) == ["6"], "ids may be used again"
    assert made == [5, 6]
    other = durable_tool(counted(made), ToolLedger(engine, "another run"))
    assert await run(other, ("c1", '{"amount":5}')) == ["5"]
    assert made == [5, 6, 5]


async def test_equal_calls_of_a_living_process_are_different_ones(engine: CheckpointEngine) -> None:
    made: list[Any] = []
    tool = durable_tool(counted(made), ToolLedger(engine, "equal"))
    calls = [(f"c{number}", '{"amount":5}') for number in range(3)]
    assert await run(tool, *calls) == ["5", "5", "5"]
    assert await run(
        durable_tool(counted(made), ToolLedger(engine, "equal")), ("c9", '{"amount":5}')
    )
    assert made == [5] * 4


class Receipt(BaseModel):
    number: int


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (lambda amount: f"ticket {amount} \0 \ud800", str),
        (lambda amount: {"amount": amount, "n": [1.5, None, True]}, str),
        (lambda amount: amount, str),
        (lambda amount: None, str),
        (lambda amount: Receipt(number=amount), str),
        (lambda amount: ToolOutputText(text="t"), list),
        (lambda amount: [ToolOutputText(text="t"), ToolOutputImage(image_url="http://x")], list),
        (lambda amount: (1, Receipt(number=amount)), str),
    ],
)
async def test_outputs_are_what_the_model_sees_without_livingai(
    engine: CheckpointEngine, request: pytest.FixtureRequest, result: Any, kind: type
) -> None:
    plain = await run(counted([], result), ("c1", '{"amount":5}'))
    made: list[Any] = []
    for _ in range(2):
        tool = durable_tool(counted(made, result), ToolLedger(engine, request.node.name))
        found = await run(tool, ("c1", '{"amount":5}'))
        assert found == plain
        assert isinstance(found[0], kind)
    assert made == [5]


async def test_what_a_tool_raised_is_raised_again(engine: CheckpointEngine) -> None:
    made: list[Any] = []

    def fails(amount: int) -> Any:
        raise LookupError(f"no account {amount}")

    for _ in range(2):
        tool = durable_tool(counted(made, fails), ToolLedger(engine, "raises"))
        with pytest.raises(UserError, match="no account 5") as caught:
            await run(tool, ("c1", '{"amount":5}'))
        assert isinstance(caught.value.__cause__, LookupError)
    assert made == [5]


async def test_a_cancelled_call_is_in_doubt(engine: CheckpointEngine) -> None:
    began = asyncio.Event()

    async def hangs() -> str:
        began.set()
        await asyncio.Event().wait()
        return "never"

    call = ToolLedger(engine, "cancelled").call("charge", "c1", "{}", hangs)
    task = asyncio.create_task(call)
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(InDoubtError):
        await ToolLedger(engine, "cancelled").call("charge", "c1", "{}", hangs)

    def resolver(node: ExecutionNode) -> Resolution:
        return Resolution.done(f"{node.metadata['name']} happened")

    ledger = ToolLedger(engine, "cancelled", resolver=resolver)
    assert await ledger.call("charge", "c1", "{}", hangs) == "charge happened"


async def test_a_tool_of_all_runs_finds_its_ledger(engine: CheckpointEngine) -> None:
    made: list[Any] = []
    tool = durable_tool(counted(made), lambda context: context.context)
    for name in ("a", "b", "a"):
        model = ScriptedModel([
            [function_call("charge", {"amount": 5}, call_id="c1")], [assistant_message("done")]
        ])  # fmt: skip
        agent = Agent(name="payer", model=model, tools=[tool])
        ledger = ToolLedger(engine, f"context {name}")
        await Runner.run(agent, "pay", context=ledger, run_config=QUIET)
    assert made == [5, 5]
    wrong = durable_tool(counted(made), lambda context: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError) as caught:
        await run(wrong, ("c1", '{"amount":5}'))
    assert isinstance(caught.value.__cause__, ConfigurationError)


async def test_an_approval_policy_of_its_own_is_kept(engine: CheckpointEngine) -> None:
    """It sees arguments only if the tool would be called with exactly these."""
    asked: list[Any] = []

    async def policy(context: RunContextWrapper[Any], given: dict[str, Any], call_id: str) -> bool:
        asked.append(given)
        return bool(given["amount"] > 10)

    @function_tool(needs_approval=policy)
    async def charge(amount: int = 100) -> str:
        return f"charged {amount}"

    for name, arguments, waits in (
        ("small", '{"amount":5}', False),
        ("large", '{"amount":50}', True),
        ("default", "{}", True),
    ):
        for tool in (charge, durable_tool(charge, ToolLedger(engine, f"policy {name}"))):
            model = ScriptedModel([
                [function_call("charge", arguments, call_id="c")], [assistant_message("done")]
            ])  # fmt: skip
            agent = Agent(name="payer", model=model, tools=[tool])
            result = await Runner.run(agent, "pay", run_config=QUIET)
            assert bool(result.interruptions) is waits, (name, tool)
    assert asked == [{"amount": 5}] * 2 + [{"amount": 50}] * 2
    assert durable_tool(charge, ToolLedger(engine, "x")).__wrapped__ is charge.__wrapped__


async def test_clearing_a_session_forgets_what_was_lost(
    engine: CheckpointEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process that made the call had died."""
    session = LivingAISession(engine, "cleared")
    made: list[Any] = []

    async def charged() -> str:
        made.append(1)
        return "ticket"

    await ToolLedger(session).call("charge", "c1", "{}", charged)
    monkeypatch.setattr("livingai.adapters.openai_agents.ledger.is_alive", lambda life: False)
    only_ids = ToolLedger(session, same_arguments=False)
    assert await only_ids.call("charge", "c2", "{}", charged) == "ticket"
    assert len(made) == 2
    ledger = ToolLedger(session)
    for name in ("c3", "c4", "c5"):
        assert await ledger.call("charge", name, "{}", charged) == "ticket"
    assert len(made) == 3, "two were lost, so two are served"
    await session.add_items(call_items("c5"))
    await session.clear_session()
    assert await ToolLedger(session).restore_history() == 0
    await ToolLedger(session).call("charge", "c6", "{}", charged)
    assert len(made) == 4
    assert await session.get_items() == []


@pytest.mark.parametrize("given", ["text", None, 7])
async def test_what_is_no_tool_or_no_ledger(engine: CheckpointEngine, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="FunctionTool"):
        durable_tool(given, ToolLedger(engine, "x"))
    with pytest.raises(ConfigurationError, match="ledger"):
        durable_tool(counted([]), given)
    inner = Agent(name="inner").as_tool("inner", "an agent")
    with pytest.raises(ConfigurationError, match="wrap the tools"):
        durable_tool(inner, ToolLedger(engine, "x"))
    with pytest.raises(ConfigurationError, match="run_id"):
        ToolLedger(engine, given if given != "text" else "")
    with pytest.raises(ConfigurationError, match="run_id"):
        ToolLedger(LivingAISession(engine, "s"), "x")
    with pytest.raises(ConfigurationError, match="session"):
        await ToolLedger(engine, "x").restore_history()


# -- paused runs --


def clerk(*steps: Any) -> Agent[Any]:
    tool = counted([])
    tool.needs_approval = True
    return Agent(name="clerk", model=ScriptedModel(list(steps)), tools=[tool])


ASKS = [function_call("charge", {"amount": 5}, call_id="c1")]


async def test_looking_at_a_paused_run_does_not_use_it_up(engine: CheckpointEngine) -> None:
    agent = clerk(ASKS, [assistant_message("paid")])
    await save_run_state(engine, "look", await Runner.run(agent, "pay", run_config=QUIET))
    for _ in range(2):
        looked = await load_run_state(engine, "look", agent, claim=False)
        assert [item.tool_name for item in looked.get_interruptions()] == ["charge"]
    state = await load_run_state(engine, "look", agent)
    with pytest.raises(AlreadyResumedError, match="again=True"):
        await load_run_state(engine, "look", agent)
    state.approve(state.get_interruptions()[0])
    assert (await Runner.run(agent, state, run_config=QUIET)).final_output == "paid"
    await load_run_state(engine, "look", agent, again=True)


async def test_each_pause_is_resumed_once(engine: CheckpointEngine) -> None:
    agent = clerk(ASKS, [function_call("charge", {"amount": 6}, call_id="c2")])
    result = await Runner.run(agent, "pay", run_config=QUIET)
    await save_run_state(engine, "twice", result.to_state())
    state = await load_run_state(engine, "twice", agent)
    state.approve(state.get_interruptions()[0])
    await save_run_state(engine, "twice", await Runner.run(agent, state, run_config=QUIET))
    second = await load_run_state(engine, "twice", agent)
    assert [item.call_id for item in second.get_interruptions()] == ["c2"]
    with pytest.raises(AlreadyResumedError):
        await load_run_state(engine, "twice", agent)


async def test_of_many_that_load_at_once_one_gets_it(engine: CheckpointEngine) -> None:
    agent = clerk(ASKS)
    await save_run_state(engine, "many", await Runner.run(agent, "pay", run_config=QUIET))
    found = await asyncio.gather(
        *(load_run_state(engine, "many", agent) for _ in range(6)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in found) == [
        *["AlreadyResumedError"] * 5,
        "RunState",
    ]


async def test_a_state_that_cannot_be_read_is_not_claimed(engine: CheckpointEngine) -> None:
    agent = clerk(ASKS)
    await save_run_state(engine, "unread", await Runner.run(agent, "pay", run_config=QUIET))
    with pytest.raises(UserError):
        await load_run_state(engine, "unread", Agent(name="somebody else"))
    await load_run_state(engine, "unread", agent)


async def test_paused_runs_that_are_not_there_or_damaged(engine: CheckpointEngine) -> None:
    with pytest.raises(ExecutionNotFoundError, match="nobody"):
        await load_run_state(engine, "nobody", clerk())
    with pytest.raises(ConfigurationError, match="RunState"):
        await save_run_state(engine, "x", {"not": "a state"})
    with pytest.raises(ConfigurationError, match="key"):
        await save_run_state(engine, "", None)
    agent = clerk(ASKS)
    await save_run_state(engine, "damaged", await Runner.run(agent, "pay", run_config=QUIET))
    [node] = await engine.nodes(execution_name("openai-agents", "state", "damaged"))
    await engine.save(ExecutionNode(node.execution_id, id=node.id), "no json")
    with pytest.raises(CorruptRowError, match="no JSON"):
        await load_run_state(engine, "damaged", agent)


# -- hooks --


async def test_hooks_record_models_tools_and_handoffs(engine: CheckpointEngine) -> None:
    second = Agent(name="second", model=ScriptedModel([[assistant_message("bye")]]))
    usage = Usage(requests=1, input_tokens=7, output_tokens=5, total_tokens=12)
    first = Agent(
        name="first", instructions="Be brief.", tools=[counted([])], handoffs=[handoff(second)],
        model=ScriptedModel([
            ModelStep(output=ASKS, usage=usage),
            [function_call("transfer_to_second", {}, call_id="h1")],
        ]),
    )  # fmt: skip
    async with LivingAIHooks(engine, "hooks") as hooks:
        await Runner.run(first, "pay", hooks=hooks, run_config=QUIET)
    nodes = await engine.nodes(hooks.execution_id)
    assert [(node.type, node.metadata["name"]) for node in nodes] == [
        (NodeType.PROMPT, "first"), (NodeType.TOOL, "charge"), (NodeType.PROMPT, "first"),
        (NodeType.BRANCH, "handoff"), (NodeType.PROMPT, "second"), (NodeType.MEMORY, "second"),
    ]  # fmt: skip
    assert {node.status for node in nodes} == {Status.SUCCESS}
    assert {node.metadata["framework"] for node in nodes} == {"openai-agents"}
    prompt, tool, again, branch, _, end = nodes
    assert prompt.input == {
        "instructions": "Be brief.", "seen": 0, "items": [{"content": "pay", "role": "user"}],
    }  # fmt: skip
    assert again.input["seen"] == 1
    assert [item["type"] for item in again.input["items"]] == [
        "function_call", "function_call_output",
    ]  # fmt: skip
    assert (prompt.cost_tokens, again.cost_tokens) == (12, 0)
    assert prompt.output[0]["name"] == "charge"
    assert tool.input == {"name": "charge", "arguments": '{"amount":5}', "call_id": "c1"}
    assert tool.output == "5"
    assert tool.parent_id == prompt.id
    assert branch.input == {"from": "first", "to": "second"}
    assert end.output == "bye"
    assert await engine.costs("execution", prefix=hooks.execution_id)


async def test_hooks_record_what_ended_the_run(engine: CheckpointEngine) -> None:
    model = ScriptedModel([ModelStep.raise_error(ConnectionError("no line"))])
    hooks = LivingAIHooks(engine, "errors")
    with pytest.raises(ConnectionError):
        async with hooks:
            await Runner.run(Agent(name="a", model=model), "hi", hooks=hooks, run_config=QUIET)
    [node] = await engine.nodes(hooks.execution_id)
    assert (node.type, node.status) == (NodeType.PROMPT, Status.FAILED)
    assert node.error is not None
    assert (node.error.type, node.error.message) == ("ConnectionError", "no line")

    def fails(amount: int) -> Any:
        raise LookupError("no account")

    hooks = LivingAIHooks(engine, "tool errors")
    with pytest.raises(UserError):
        async with hooks:
            await run(counted([], fails), ("c1", '{"amount":5}'), hooks=hooks)
    _, tool = await engine.nodes(hooks.execution_id)
    assert (tool.type, tool.status) == (NodeType.TOOL, Status.RUNNING), "it may have had its effect"
    assert tool.error is not None


async def test_a_whole_run_leaves_a_history_that_goes_on(engine: CheckpointEngine) -> None:
    session = LivingAISession(engine, "whole")
    for number in range(3):
        tool = durable_tool(counted([]), ToolLedger(session))
        found = await run(tool, (f"c{number}", '{"amount":5}'), session=session)
        assert found == ["5"] * (number + 1)
    await session.add_items([message("last")])
    assert len(await session.get_items()) == 13


def test_the_adapter_is_imported_by_name_only() -> None:
    import subprocess
    import sys

    code = "import livingai, livingai.adapters, sys; assert 'agents' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
