"""Real graphs in real processes that are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("langgraph")

from livingai.adapters.langgraph import LivingAISaver
from tests.frameworks.langgraph import graphs
from tests.frameworks.langgraph.graphs import STEPS, ask_graph, config_of, ids_of
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process
from tests.support.place import Place


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("die_in", STEPS)
def test_a_killed_graph_goes_on_with_every_finished_step(
    place: Place, tmp_path: Path, durability: str, die_in: str
) -> None:
    note = tmp_path / "note"
    first = other_process(place)
    with pytest.raises(AgentDied):
        first.call(graphs.run_steps, str(note), "thread", durability, die_in)
    second = other_process(place)
    state = second.call(graphs.resume_steps, str(note), "thread")
    assert state == {"done": list(STEPS)}
    began = note.read_text().split()
    assert sorted(began) == sorted([*STEPS, die_in]), "a finished step was taken again"


def test_what_another_process_asked_is_answered_here_and_back(place: Place) -> None:
    with place.engine() as engine:
        graph = ask_graph(LivingAISaver(engine))
        asked = graph.invoke({"done": []}, config_of("thread"))
        assert asked["__interrupt__"][0].value == "which one?"
        other = other_process(place)
        assert other.call(graphs.answer, "thread", "this one") == {"done": ["this one"]}
        assert graph.get_state(config_of("thread")).values == {"done": ["this one"]}
        graph.update_state(config_of("thread"), {"done": ["and that"]})
        assert len(other.call(ids_of, "thread")) == len(
            list(graph.get_state_history(config_of("thread")))
        )
        assert graph.get_state(config_of("thread")).values == {"done": ["this one", "and that"]}


def test_two_processes_that_put_at_once_lose_nothing(place: Place) -> None:
    agents = [other_process(place) for _ in range(3)]
    names = ["a", "b", "c"]
    for agent, name in zip(agents, names, strict=True):
        agent.send(graphs.put_many, "thread", name, 60)
    put = [agent.receive() for agent in agents]
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        found = {tup.checkpoint["id"]: tup for tup in saver.list(config_of("thread"))}
    assert set(found) == {each for ids in put for each in ids}
    assert all(len(tup.pending_writes) == 1 for tup in found.values())


def test_what_a_killed_process_has_put_is_there(place: Place) -> None:
    agent = other_process(place)
    with pytest.raises(AgentDied):
        agent.call(graphs.put_many_and_die, "thread", "x", 40)
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        assert len(list(saver.list(config_of("thread")))) == 40
        latest = saver.get_tuple(config_of("thread"))
    assert latest is not None
    assert latest.checkpoint["channel_values"] == {"who": "x", "number": 39}
    assert latest.pending_writes == [("task-x-39", "who", "x")]
