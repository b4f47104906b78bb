"""Sessions, tools and paused runs of several processes, some of which are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents")

from livingai import NodeType, Status
from livingai.adapters.names import execution_name
from livingai.adapters.openai_agents.items import without_orphans
from tests.frameworks.openai_agents import programs
from tests.support.agents import Agent, AgentDied
from tests.support.place import Place


def killed(agent: Agent, function: Any, *arguments: Any, **keywords: Any) -> None:
    """Have a process do something in which it kills itself."""
    with pytest.raises(AgentDied, match="-9"):
        agent.call(function, *arguments, **keywords)


def charges(place: Place) -> list[str]:
    file = Path(place.folder) / "charges"
    return file.read_text().split() if file.exists() else []


# -- sessions --


def test_what_was_acknowledged_survives_kill(place: Place) -> None:
    texts = [f"message {number}" for number in range(20)]
    killed(place.agent(), programs.add_and_die, "s", texts)
    assert place.agent().call(programs.contents, "s") == texts


def test_another_process_reads_what_was_just_written(place: Place) -> None:
    writer, reader = place.agent(), place.agent()
    expected = []
    for number in range(10):
        writer.call(programs.add, "s", [f"w{number}"])
        expected.append(f"w{number}")
        assert reader.call(programs.contents, "s") == expected
        reader.call(programs.add, "s", [f"r{number}"])
        expected.append(f"r{number}")
        assert writer.call(programs.contents, "s") == expected


def test_two_processes_add_at_once(place: Place) -> None:
    agents = [place.agent() for _ in range(2)]
    given = [[f"{name}{number}" for number in range(40)] for name in "ab"]
    for agent, texts in zip(agents, given, strict=True):
        agent.send(programs.add, "s", texts)
    for agent in agents:
        agent.receive()
    found = agents[0].call(programs.contents, "s")
    assert found == agents[1].call(programs.contents, "s"), "one order for all"
    for texts in given:
        assert [text for text in found if text in texts] == texts
    assert len(found) == 80


def test_two_processes_pop_at_once(place: Place) -> None:
    agents = [place.agent() for _ in range(2)]
    texts = [f"message {number}" for number in range(12)]
    agents[0].call(programs.add, "s", texts)
    for agent in agents:
        agent.send(programs.pop_all, "s")
    popped = [agent.receive() for agent in agents]
    assert sorted(popped[0] + popped[1]) == sorted(texts)
    assert agents[0].call(programs.contents, "s") == []


# -- tools --


@pytest.mark.parametrize("call_id", ["call-1", "call-2"])
def test_a_tool_that_ran_before_the_kill_is_not_run_again(place: Place, call_id: str) -> None:
    """Killed between the tool and ``add_items``; the model may give the call another id."""
    folder = str(place.folder)
    killed(place.agent(), programs.charge_run, folder, "s", "call-1", dies="session")
    assert charges(place) == ["5"]
    survivor = place.agent()
    done = survivor.call(programs.charge_run, folder, "s", call_id, text="")
    assert charges(place) == ["5"]
    kinds = [item.get("type", item.get("role")) for item in done["items"]]
    assert kinds == ["user", "function_call", "function_call_output", "message"]
    assert done["items"][2]["output"] == "ticket for 5"
    assert without_orphans(done["items"]) == done["items"]
    # What is in the history now counts no more: the same call again is another one.
    survivor.call(programs.charge_run, folder, "s", "call-3")
    assert charges(place) == ["5", "5"]


def test_the_history_can_be_restored_first(place: Place) -> None:
    folder = str(place.folder)
    killed(place.agent(), programs.charge_run, folder, "s", "call-1", dies="session")
    survivor = place.agent()
    done = survivor.call(programs.charge_run, folder, "s", "", text="", restore=True)
    assert done["restored"] == 1
    user, called, output, answer = done["items"]
    assert user["content"] == "charge 5"
    assert (called["name"], called["call_id"]) == ("charge", "call-1")
    assert called["arguments"] == '{"amount":5}'
    assert (output["call_id"], output["output"]) == ("call-1", "ticket for 5")
    assert answer["type"] == "message"
    again = survivor.call(programs.charge_run, folder, "s", "", text="", restore=True)
    assert again["restored"] == 0


def test_a_tool_that_was_cut_off_is_in_doubt_until_a_resolver_decides(place: Place) -> None:
    folder = str(place.folder)
    killed(place.agent(), programs.charge_run, folder, "s", "call-1", dies="tool")
    with place.engine() as engine:
        nodes = engine.nodes_sync(execution_name("openai-agents", "run", "s"))
        assert [(node.type, node.status) for node in nodes] == [
            (NodeType.PROMPT, Status.SUCCESS),
            (NodeType.TOOL, Status.RUNNING),
        ]
        assert nodes[1].parent_id == nodes[0].id
        assert nodes[1].input == {
            "name": "charge", "arguments": '{"amount":5}', "call_id": "call-1",
        }  # fmt: skip
    agents = [place.agent(), place.agent()]
    for agent, call_id in zip(agents, ("call-1", "call-2"), strict=True):
        found = agent.call(programs.charge_run, folder, "s", call_id, text="")
        assert "charge" in found["in_doubt"], found
        assert without_orphans(found["items"]) == found["items"]
    assert charges(place) == ["5"], "in doubt for each that comes, the ones before them alive"
    done = agents[0].call(
        programs.charge_run, folder, "s", "call-3", text="", resolved="ticket, found later"
    )
    assert charges(place) == ["5"]
    assert done["output"] == "done"
    outputs = [i["output"] for i in done["items"] if i.get("type") == "function_call_output"]
    assert outputs == ["ticket, found later"]


# -- paused runs --


def test_of_two_that_approve_at_once_one_is_refused(place: Place) -> None:
    folder = str(place.folder)
    killed(place.agent(), programs.pause_and_die, folder, "ticket-7")
    assert charges(place) == []
    agents = [place.agent() for _ in range(2)]
    for agent in agents:
        agent.send(programs.approve, folder, "ticket-7")
    assert sorted(agent.receive() for agent in agents) == ["paid", "refused"]
    assert [agent.call(programs.approve, folder, "ticket-7") for agent in agents] == ["refused"] * 2
    assert charges(place) == ["5"]


def test_a_run_whose_resumer_was_killed_is_resumed_again_if_asked(place: Place) -> None:
    folder = str(place.folder)
    killed(place.agent(), programs.pause_and_die, folder, "ticket-7")
    killed(place.agent(), programs.approve, folder, "ticket-7", dies=True)
    assert charges(place) == ["5"]
    survivor = place.agent()
    assert survivor.call(programs.approve, folder, "ticket-7") == "refused"
    assert survivor.call(programs.approve, folder, "ticket-7", again=True) == "paid"
    assert charges(place) == ["5"], "the tool of the approval is not called a second time"
