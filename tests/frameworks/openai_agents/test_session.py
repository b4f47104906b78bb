"""The SDK's session protocol: what every method gives, on every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("agents")

from agents import Agent, RunConfig, Runner, SessionSettings, SQLiteSession
from agents.memory import Session
from agents.memory.session import _session_accepts_wrapper
from agents.run_internal.items import _TOOL_CALL_TO_OUTPUT_TYPE
from agents.testing import ScriptedModel, assistant_message

from livingai import CheckpointEngine, Durability, ExecutionNode
from livingai.adapters.openai_agents import LivingAISession
from livingai.adapters.openai_agents.arguments import MOMENTS
from livingai.adapters.openai_agents.items import ANSWERS, without_orphans
from livingai.adapters.shared_log import SharedLog
from livingai.errors import (
    ConfigurationError,
    CorruptRowError,
    RecordRefusedError,
    StateEncodingError,
)
from tests.frameworks.openai_agents.programs import call_items, message
from tests.support.framework_places import refuses_odd_places
from tests.support.place import Place


@pytest.fixture
async def engine(shared_place: Place) -> AsyncIterator[CheckpointEngine]:
    async with shared_place.engine() as engine:
        yield engine


@pytest.fixture
def session(engine: CheckpointEngine, request: pytest.FixtureRequest) -> LivingAISession:
    return LivingAISession(engine, request.node.name)


def texts(items: list[Any]) -> list[str]:
    return [item["content"] for item in items]


def messages(*given: str) -> list[Any]:
    return [message(text) for text in given]


# -- the protocol --


def test_it_is_a_session(session: LivingAISession) -> None:
    assert isinstance(session, Session)
    assert _session_accepts_wrapper(session)
    assert session.session_settings == SessionSettings()


async def test_a_new_session_is_empty(session: LivingAISession) -> None:
    assert await session.get_items() == []
    assert await session.get_items(limit=3) == []
    assert await session.pop_item() is None
    await session.clear_session()
    await session.add_items([])
    assert await session.get_items() == []


async def test_items_come_back_in_order_as_they_were(session: LivingAISession) -> None:
    given = [
        message("plain"),
        {"role": "user", "content": "NUL \0, lone \ud800, 语言, 🎈, '; DROP TABLE x; --"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]},
        {"role": "user", "content": None, "n": 1.5, "b": True, "big": 1 << 70, "deep": [[{}]]},
        *call_items("call-1"),
    ]
    await session.add_items(given[:2])
    await session.add_items(given[2:])
    assert await session.get_items() == given


async def test_what_is_returned_is_a_copy(session: LivingAISession) -> None:
    item = message("one")
    await session.add_items([item])
    item["content"] = "changed"
    (await session.get_items())[0]["content"] = "changed"
    assert texts(await session.get_items()) == ["one"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, ["1", "2", "3", "4", "5"]),
        (0, []),
        (1, ["5"]),
        (2, ["4", "5"]),
        (3, ["3", "4", "5"]),
        (5, ["1", "2", "3", "4", "5"]),
        (99, ["1", "2", "3", "4", "5"]),
        (-1, ["1", "2", "3", "4", "5"]),
    ],
)
async def test_a_limit_gives_the_newest_oldest_first(
    session: LivingAISession, limit: int | None, expected: list[str]
) -> None:
    builtin = SQLiteSession("same")
    for each in (session, builtin):
        await each.add_items(messages("1", "2"))
        await each.add_items(messages("3"))
        await each.add_items(messages("4", "5"))
        assert texts(await each.get_items(limit)) == expected, each
        assert texts(await each.get_items(limit=limit)) == expected, each
    builtin.close()


@pytest.mark.parametrize("settings", [SessionSettings(limit=2), {"limit": 2}])
async def test_settings_have_a_limit(engine: CheckpointEngine, settings: Any) -> None:
    session = LivingAISession(engine, f"settings-{type(settings)}", session_settings=settings)
    assert session.session_settings == SessionSettings(limit=2)
    await session.add_items(messages("1", "2", "3"))
    assert texts(await session.get_items()) == ["2", "3"]
    assert texts(await session.get_items(limit=1)) == ["3"], "the call's own limit comes first"
    session.session_settings = None
    assert texts(await session.get_items()) == ["1", "2", "3"]


async def test_the_runner_uses_the_settings(session: LivingAISession) -> None:
    await session.add_items(messages("1", "2", "3"))
    session.session_settings = SessionSettings(limit=2)
    model = ScriptedModel([[assistant_message("hello")]])
    await Runner.run(
        Agent(name="a", model=model), "4", session=session,
        run_config=RunConfig(tracing_disabled=True, session_settings=SessionSettings(limit=1)),
    )  # fmt: skip
    assert texts(model.calls[0].input) == ["3", "4"]
    session.session_settings = None
    assert len(await session.get_items()) == 5


async def test_pop_takes_the_newest(session: LivingAISession) -> None:
    await session.add_items(messages("1", "2"))
    await session.add_items(messages("3"))
    popped = [await session.pop_item() for _ in range(2)]
    assert texts(popped) == ["3", "2"]
    assert texts(await session.get_items()) == texts(await session.get_items(9)) == ["1"]
    await session.add_items(messages("4"))
    assert texts(await session.get_items()) == texts(await session.get_items(2)) == ["1", "4"]
    assert texts([await session.pop_item(), await session.pop_item()]) == ["4", "1"]
    assert await session.pop_item() is None
    assert await session.get_items() == []


async def test_limits_look_behind_what_was_popped(
    session: LivingAISession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livingai.adapters.openai_agents.session._FEW", 2)
    for number in range(12):
        await session.add_items(messages(f"{number}a", f"{number}b"))
    for _ in range(9):
        await session.pop_item()
    assert texts(await session.get_items(2)) == ["6b", "7a"]
    assert texts(await session.get_items(4)) == ["5b", "6a", "6b", "7a"]
    assert len(await session.get_items()) == 15


async def test_many_entries_and_marks_are_read_in_pages(
    session: LivingAISession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livingai.adapters.openai_agents.session._PAGE", 3)
    monkeypatch.setattr("livingai.adapters.openai_agents.session.MAX_NODES", 2)
    for number in range(11):
        await session.add_items(messages(f"{number}"))
    for _ in range(5):
        await session.pop_item()
    assert texts(await session.get_items()) == [str(number) for number in range(6)]
    assert texts(await session.get_items(4)) == ["2", "3", "4", "5"]


async def test_two_that_pop_at_once_get_different_items(engine: CheckpointEngine) -> None:
    sessions = [LivingAISession(engine, "two-pop") for _ in range(4)]
    await sessions[0].add_items(messages(*map(str, range(8))))
    popped = await asyncio.gather(*(each.pop_item() for each in sessions * 3))
    found = [item["content"] for item in popped if item is not None]
    assert sorted(found) == [str(number) for number in range(8)]
    assert popped.count(None) == 4


async def test_clear_removes_all_and_the_session_goes_on(session: LivingAISession) -> None:
    other = LivingAISession(session.engine, session.session_id)
    await other.add_items(messages("1"))
    await session.add_items(messages("2", "3"))
    await session.pop_item()
    await session.clear_session()
    assert await session.get_items() == await other.get_items() == []
    assert await session.get_items(1) == []
    await other.add_items(messages("4"))
    await session.add_items(messages("5"))
    assert texts(await session.get_items()) == ["4", "5"]


async def test_sessions_do_not_see_each_other(engine: CheckpointEngine) -> None:
    names = [
        "a",
        "a/items",
        "A",
        "a ",
        "a%2F",
        "ä",
        "\0",
        "x" * 10_000,
        "x" * 9_999 + "y",
        "\ud800",
    ]
    sessions = [LivingAISession(engine, name) for name in names]
    for number, each in enumerate(sessions):
        await each.add_items(messages(f"{number}", "second"))
        await each.pop_item()
    await sessions[0].clear_session()
    found = [texts(await each.get_items()) for each in sessions]
    assert found == [[], *([str(number)] for number in range(1, len(names)))]


async def test_what_is_added_to_an_entry_read_sorts_behind_it(session: LivingAISession) -> None:
    """Another machine's clock may be an hour ahead."""
    ahead = int(MOMENTS.next()[:16], 16) + 3_600 * 10**9
    node_id = f"{session.execution_id}/items/{ahead:016x}-00000000"
    await SharedLog(session.engine).append(
        ExecutionNode(session.execution_id, id=node_id), '[{"role":"user","content":"ahead"}]'
    )
    assert texts(await session.get_items()) == ["ahead"]
    await session.add_items(messages("behind"))
    assert texts(await session.get_items()) == ["ahead", "behind"]
    assert texts(await session.get_items(1)) == ["behind"]


@pytest.mark.parametrize("state", ["no json", '{"not": "a list"}', b"[]", None, 7])
async def test_what_the_store_holds_is_validated(
    session: LivingAISession, state: Any, request: pytest.FixtureRequest
) -> None:
    node_id = f"{session.execution_id}/items/{MOMENTS.next()}"
    await SharedLog(session.engine).append(ExecutionNode(session.execution_id, id=node_id), state)
    for limit in (None, 1):
        with pytest.raises(CorruptRowError, match="restore it"):
            await session.get_items(limit)


async def test_a_foreign_id_is_refused(session: LivingAISession) -> None:
    node_id = f"{session.execution_id}/items/zzz"
    await SharedLog(session.engine).append(ExecutionNode(session.execution_id, id=node_id), "[]")
    with pytest.raises(CorruptRowError, match="which is no moment"):
        await session.get_items()


async def test_what_is_no_json_is_refused_and_nothing_is_added(session: LivingAISession) -> None:
    with pytest.raises(StateEncodingError, match="cannot be written as JSON"):
        await session.add_items([message("fine"), {"content": object()}])
    assert await session.get_items() == []


async def test_what_the_store_refused_is_raised_at_the_next_call(session: LivingAISession) -> None:
    log = SharedLog(session.engine)
    for act in (session.get_items, session.clear_session, session.pop_item):
        log._entries._refused[session.execution_id] = RecordRefusedError("quarantined")
        with pytest.raises(RecordRefusedError, match="quarantined"):
            await act()
    await session.add_items(messages("1"))
    log._entries._refused[session.execution_id] = RecordRefusedError("quarantined")
    with pytest.raises(RecordRefusedError):
        await session.flush()
    await session.flush(30)


async def test_durability_is_passed_on(engine: CheckpointEngine) -> None:
    session = LivingAISession(engine, "stored", durability=Durability.STORE)
    waiting = SharedLog(engine)._entries._waiting
    await session.add_items(messages("1"))
    assert not [each for each in waiting if each.execution_id == session.execution_id]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("engine", ""), "session_id"),
        (("engine", 7), "session_id"),
    ],
)
async def test_arguments_that_cannot_work(
    engine: CheckpointEngine, arguments: tuple[Any, Any], said: str
) -> None:
    given = engine if arguments[0] == "engine" else arguments[0]
    with pytest.raises(ConfigurationError, match=said):
        LivingAISession(given, arguments[1])
    refuses_odd_places(lambda given, **keywords: LivingAISession(given, "s", **keywords), engine)


def test_one_log_for_all_sessions_of_an_engine(engine: CheckpointEngine) -> None:
    assert LivingAISession(engine, "a")._log is LivingAISession(engine, "b")._log


# -- answers without their calls --


async def test_a_limit_leaves_no_output_without_its_call(session: LivingAISession) -> None:
    items = [message("1"), *call_items("c1"), *call_items("c2"), message("2")]
    await session.add_items(items)
    assert await session.get_items() == items
    for limit, expected in ((1, items[5:]), (2, items[5:]), (3, items[3:]), (4, items[3:])):
        assert await session.get_items(limit) == expected, limit
    assert await session.get_items(5) == items[1:]


async def test_an_output_whose_call_was_cleared_is_left_out(session: LivingAISession) -> None:
    """As when another process clears the session in the middle of a run."""
    await session.add_items(call_items("c1")[:1])
    await session.clear_session()
    await session.add_items([*call_items("c1")[1:], message("later")])
    assert await session.get_items() == [message("later")]


def test_every_kind_of_answer_needs_its_call() -> None:
    assert {answer: call for call, answer in _TOOL_CALL_TO_OUTPUT_TYPE.items()} == ANSWERS
    for answer, call in ANSWERS.items():
        pair = [{"type": call, "call_id": "x"}, {"type": answer, "call_id": "x"}]
        assert without_orphans(pair) == pair
        assert without_orphans(pair[1:]) == []
        assert without_orphans([pair[1], pair[0]]) == pair[:1]
        assert without_orphans([{"type": call, "call_id": "y"}, pair[1]]) == [
            {"type": call, "call_id": "y"}
        ]
    approval = [
        {"type": "mcp_approval_request", "id": "r", "name": "x"},
        {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True},
    ]
    assert without_orphans(approval) == approval
    assert without_orphans(approval[1:]) == []
    odd: list[Any] = ["text", 7, None, {"type": None}, {"type": ["list"]}, {"call_id": []}, {}]
    assert without_orphans(odd) == odd
