"""Agent Framework's ``HistoryProvider`` on an engine."""

from __future__ import annotations

import pytest

pytest.importorskip("agent_framework")

from agent_framework import Message

from livingai import ExecutionNode, NodeType
from livingai.adapters.agent_framework import LivingAIHistoryProvider
from livingai.errors import ConfigurationError, CorruptRowError
from tests.frameworks.agent_framework import workflows
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place


async def test_messages_come_back_in_order(place: Place) -> None:
    async with place.engine() as engine:
        history = LivingAIHistoryProvider(engine, store_inputs=False)
        assert history.source_id == "livingai_history"
        assert not history.store_inputs
        assert await history.get_messages("s") == []
        await history.save_messages("s", [])
        said = [
            Message("user", [f"text {n} \0 ü"], additional_properties={"n": n}) for n in range(5)
        ]
        await history.save_messages("s", said[:2])
        for each in said[2:]:
            await history.save_messages("s", [each])
        found = await history.get_messages("s")
        assert [each.to_dict() for each in found] == [each.to_dict() for each in said]
        assert await history.get_messages("s/") == []
        assert await LivingAIHistoryProvider(engine, namespace="o").get_messages("s") == []
        await history.save_messages(None, [Message("user", ["without a session"])])
        assert [each.text for each in await history.get_messages(None)] == ["without a session"]
        hidden = Message("user", ["hidden"], additional_properties={"_excluded": True})
        await history.save_messages("s", [hidden])
        assert len(await history.get_messages("s")) == 6
        assert len(await LivingAIHistoryProvider(engine, skip_excluded=True).get_messages("s")) == 5


async def test_what_makes_no_sense_is_refused(file_place: Place) -> None:
    async with file_place.engine() as engine:
        history = LivingAIHistoryProvider(engine)
        with pytest.raises(ConfigurationError, match="session's id"):
            await history.get_messages("")
        refuses_odd_places(LivingAIHistoryProvider, engine)
        run = "agent-framework:history/default/s"
        for number, output in enumerate((5, ["text"], [{"role": {}}], [{"type": "os:system"}])):
            entry = f"{run}/messages/{number:016x}-{'0' * 8}"
            await engine.save(ExecutionNode(run, NodeType.MEMORY, id=entry, output=output))
            with pytest.raises(CorruptRowError, match="no messages"):
                await history.get_messages("s")
            await engine.delete(run)


def test_sessions_go_on_in_other_processes_and_survive_kills(place: Place) -> None:
    first, second = other_process(place), other_process(place)
    assert first.call(workflows.turn, "s", "a") == "1 messages"
    assert second.call(workflows.turn, "s", "b") == "3 messages"
    first.send(workflows.turn, "s", "c", die=True)
    with pytest.raises(AgentDied):
        first.receive()
    assert second.call(workflows.turn, "s", "d") == "7 messages"
    expected = ["a", "1 messages", "b", "3 messages", "c", "5 messages", "d", "7 messages"]
    assert second.call(workflows.texts, "s") == expected


def test_two_processes_write_at_once_and_lose_nothing(place: Place) -> None:
    names, count = ("a", "b"), 25
    agents = {name: other_process(place) for name in names}
    for name, agent in agents.items():
        agent.call(workflows.texts, "s")
        agent.send(workflows.say_many, "s", name, count)
    for agent in agents.values():
        agent.receive()
    found = agents["a"].call(workflows.texts, "s")
    assert len(found) == 2 * 2 * count
    for name in names:
        own = [text for text in found if text.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(count)]
    asked = [text for text in found if not text.startswith("re ")]
    assert found[1::2] == [f"re {text[0]}" for text in asked]
