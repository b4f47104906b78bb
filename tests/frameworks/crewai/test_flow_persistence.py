"""CrewAI's flows on an engine: the contract of ``FlowPersistence``, and killed processes."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("crewai")

from crewai.flow import Flow, persist, start
from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.persistence.factory import set_flow_persistence_factory
from pydantic import BaseModel

from livingai import CheckpointEngine, Durability, ExecutionNode, NodeType
from livingai.adapters.crewai import LivingAIFlowPersistence
from livingai.errors import (
    ConfigurationError,
    CorruptRowError,
    FencedError,
    StateEncodingError,
)
from tests.frameworks.crewai import flows
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place


class Item(BaseModel):
    name: str
    at: datetime


class Typed(BaseModel):
    id: str = "typed"
    items: list[Item] = []
    tags: set[str] = set()


def context(flow_id: str, **more: Any) -> PendingFeedbackContext:
    return PendingFeedbackContext(
        flow_id=flow_id, flow_class="tests.Review", method_name="draft",
        method_output={"text": "draft"}, message="good?", **more,
    )  # fmt: skip


def test_a_flow_has_its_newest_state(place: Place) -> None:
    with place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        persistence.init_db()
        assert persistence.load_state("flow-1") is None
        for number in range(5):
            persistence.save_state("flow-1", f"method-{number}", {"id": "flow-1", "n": number})
            assert persistence.load_state("flow-1") == {"id": "flow-1", "n": number}
        persistence.save_state("flow-2", "m", {"id": "flow-2"})
        assert persistence.load_state("flow-1") == {"id": "flow-1", "n": 4}
        assert LivingAIFlowPersistence(engine, namespace="other").load_state("flow-1") is None
        methods = [
            node.metadata["method"] for node in engine.nodes_sync("crewai:flow/default/flow-1")
        ]
        assert methods == [f"method-{number}" for number in range(5)]


@pytest.mark.parametrize("flow_id", ["a/b", "nul\0", "é" * 200, "x" * 10_000, "%2F", "\ud800"])
def test_ids_of_any_text(file_place: Place, flow_id: str) -> None:
    with file_place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        persistence.save_state(flow_id, "m", {"it": "is"})
        assert persistence.load_state(flow_id) == {"it": "is"}
        assert persistence.load_state(flow_id + "/state") is None


def test_what_a_state_may_hold(place: Place) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    with place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        plain = {"at": at, "tuple": (1, 2), "set": {"a"}, "bytes": b"\0", "nul": "\0", "none": None}
        persistence.save_state("plain", "m", plain)
        assert persistence.load_state("plain") == plain
        model = Typed(items=[Item(name="one", at=at)], tags={"a"})
        persistence.save_state("typed", "m", model)
        loaded = persistence.load_state("typed")
        assert loaded == model.model_dump(mode="json")
        assert Typed.model_validate(loaded) == model
        persistence.save_state("nested", "m", {"in": [{"item": model.items[0]}]})
        assert persistence.load_state("nested") == {
            "in": [{"item": model.items[0].model_dump(mode="json")}]
        }


def test_what_cannot_be_stored_is_refused(file_place: Place) -> None:
    class Odd(BaseModel, arbitrary_types_allowed=True):
        value: Any

    with file_place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        persistence.save_state("flow", "m", {"kept": 1})
        with pytest.raises(StateEncodingError, match="handle"):
            persistence.save_state("flow", "m", {"handle": object()})
        with pytest.raises(StateEncodingError, match="Odd"):
            persistence.save_state("flow", "m", Odd(value=object()))
        with pytest.raises(StateEncodingError, match="dict or a pydantic model"):
            persistence.save_state("flow", "m", ["list"])  # type: ignore[arg-type]
        assert persistence.load_state("flow") == {"kept": 1}


def test_arguments_that_cannot_work(file_place: Place) -> None:
    with file_place.engine() as engine:
        refuses_odd_places(LivingAIFlowPersistence, engine, ("agent.db", 7))  # None: a living one's
        with pytest.raises(ConfigurationError, match="flow's id"):
            LivingAIFlowPersistence(engine).save_state("", "m", {})


def test_a_row_of_another_program_is_not_taken_for_a_state(file_place: Place) -> None:
    with file_place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        run = "crewai:flow/default/flow"
        for odd in (f"{run}/state/zzz", f"{run}/state/{'f' * 16}-{'0' * 8}"):
            engine.save_sync(ExecutionNode(run, NodeType.MEMORY, id=odd), ["no dict"])
            with pytest.raises(CorruptRowError, match="another program"):
                persistence.load_state("flow")
            engine.delete_sync(run)


# -- feedback --


def test_feedback_is_pending_until_it_is_cleared(place: Place) -> None:
    with place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        assert persistence.load_pending_feedback("flow") is None
        persistence.clear_pending_feedback("flow")
        asked = context("flow", emit=["yes", "no"], metadata={"k": [1]}, llm={"model": "m"},
                        execution_uuid="e", trace_context=(1 << 127, 2))  # fmt: skip
        persistence.save_pending_feedback("flow", asked, {"id": "flow", "draft": 1})
        assert persistence.load_state("flow") == {"id": "flow", "draft": 1}
        for _ in range(2):
            assert persistence.load_pending_feedback("flow") == ({"id": "flow", "draft": 1}, asked)
        persistence.clear_pending_feedback("flow")
        assert persistence.load_pending_feedback("flow") is None
        persistence.clear_pending_feedback("flow")
        assert persistence.load_state("flow") == {"id": "flow", "draft": 1}
        persistence.save_state("flow", "m", {"id": "flow", "draft": 2})
        again = context("flow")
        persistence.save_pending_feedback("flow", again, {"id": "flow", "draft": 3})
        assert persistence.load_pending_feedback("flow") == ({"id": "flow", "draft": 3}, again)


def test_of_two_that_loaded_the_feedback_one_takes_it(place: Place) -> None:
    with place.engine() as engine:
        one, other = LivingAIFlowPersistence(engine), LivingAIFlowPersistence(engine)
        one.save_pending_feedback("flow", context("flow"), {"n": 1})
        for each in (one, one, other):
            assert each.load_pending_feedback("flow") is not None
        one.save_state("flow", "m", {"n": 2})
        one.clear_pending_feedback("flow")
        one.save_state("flow", "m", {"n": 3})
        with pytest.raises(FencedError, match="already taken"):
            one.clear_pending_feedback("flow")  # loaded twice
        with pytest.raises(FencedError, match="already taken"):
            other.save_state("flow", "m", {"n": 4})
        with pytest.raises(FencedError, match="already taken"):
            other.clear_pending_feedback("flow")
        other.clear_pending_feedback("flow")  # nothing of its own any more
        assert other.load_state("flow") == {"n": 3}
        other.save_state("flow", "m", {"n": 5})
        assert one.load_state("flow") == {"n": 5}


def test_who_has_only_looked_may_go_on_later(file_place: Place) -> None:
    with file_place.engine() as engine:
        one, other = LivingAIFlowPersistence(engine), LivingAIFlowPersistence(engine)
        one.save_pending_feedback("flow", context("flow"), {"n": 1})
        assert other.load_pending_feedback("flow") is not None
        one.clear_pending_feedback("flow")
        assert other.load_state("flow") == {"n": 1}
        other.save_state("flow", "m", {"n": 2})
        assert one.load_state("flow") == {"n": 2}


# -- with flows --


def test_a_flow_is_restored_and_forked(place: Place) -> None:
    with place.engine() as engine:
        flow = flows.steps_flow(engine)
        flow.kickoff(inputs={"id": "flow-1"})
        assert flow.state["done"] == list(flows.STEPS)
        again = flows.steps_flow(engine)
        again.kickoff(inputs={"id": "flow-1"})
        assert again.state["done"] == list(flows.STEPS)
        fork = flows.steps_flow(engine)
        fork.kickoff(restore_from_state_id="flow-1")
        assert fork.state["id"] != "flow-1"
        assert fork.state["done"] == list(flows.STEPS)


def test_by_the_factory_and_from_what_a_flow_has_written(file_place: Place) -> None:
    with file_place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine, durability=Durability.FSYNC)
        set_flow_persistence_factory(lambda: persistence)
        try:

            @persist()
            class Counter(Flow):
                @start()
                def count(self) -> None:
                    self.state["n"] = self.state.get("n", 0) + 1

            flow = Counter()
            assert flow.persistence is persistence
            for _ in range(2):
                Counter().kickoff(inputs={"id": "c"})
        finally:
            set_flow_persistence_factory(None)
        assert persistence.load_state("c") == {"id": "c", "n": 2}
        written = flow.model_dump(mode="json")["persistence"]
        assert written == {
            "persistence_type": "LivingAIFlowPersistence", "namespace": "default"
        }  # fmt: skip
        restored = Counter(persistence=written)
        assert restored.persistence.load_state("c") == {"id": "c", "n": 2}
        assert copy.deepcopy(persistence) is copy.copy(persistence) is persistence
        with pytest.raises(ConfigurationError, match="before a flow is restored"):
            LivingAIFlowPersistence(namespace="nowhere")


# -- with other processes --


@pytest.mark.parametrize("die_in", flows.STEPS)
def test_a_flow_killed_in_a_method_goes_on_there(place: Place, die_in: str) -> None:
    before = list(flows.STEPS[: flows.STEPS.index(die_in)])
    agent = other_process(place)
    agent.send(flows.run_steps, "flow-1", die_in)
    with pytest.raises(AgentDied):
        agent.receive()
    assert agent.died() == -9
    with place.engine() as engine:
        saved = LivingAIFlowPersistence(engine).load_state("flow-1")
        assert (saved or {}).get("done", []) == before
    state = other_process(place).call(flows.run_steps, "flow-1")
    assert state["done"] == list(flows.STEPS)


def test_an_acknowledged_state_survives_the_kill(place: Place) -> None:
    reader = other_process(place)
    for number in range(3):
        agent = other_process(place)
        agent.send(flows.save_and_die, "flow-1", number)
        with pytest.raises(AgentDied):
            agent.receive()
        assert reader.call(flows.load, "flow-1") == {"number": number}


def test_processes_read_what_others_have_just_written(place: Place) -> None:
    with place.engine() as engine:
        persistence = LivingAIFlowPersistence(engine)
        other = other_process(place)
        for number in range(5):
            persistence.save_state("flow", "m", {"by": "this", "number": number})
            assert other.call(flows.load, "flow") == {"by": "this", "number": number}
            other.call(flows.save_many, "flow", "that", number + 1)
            assert persistence.load_state("flow") == {"by": "that", "number": number}


def test_two_processes_write_at_once_and_lose_nothing(place: Place) -> None:
    names, count = ("a", "b"), 50
    agents = {name: other_process(place) for name in names}
    for name, agent in agents.items():
        agent.call(flows.load, "flow")
        agent.send(flows.save_many, "flow", name, count)
    for agent in agents.values():
        agent.receive()
    with place.engine() as engine:
        newest = LivingAIFlowPersistence(engine).load_state("flow")
        assert newest is not None
        assert newest["number"] == count - 1
        nodes = engine.nodes_sync("crewai:flow/default/flow")
    for name in names:
        assert sum(node.metadata["method"] == name for node in nodes) == count


def test_a_paused_flow_is_resumed_once_by_another_process(place: Place, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    first = other_process(place)
    assert first.call(flows.pause, "flow-1", str(marks)) == "HumanFeedbackPending"
    first.kill()
    agents = [other_process(place) for _ in range(2)]
    for agent in agents:
        assert agent.call(flows.load_review, "flow-1", str(marks))["draft"] == "text"
    for number, agent in enumerate(agents):
        agent.send(flows.resume, f"reply {number}")
    results = sorted(agent.receive() for agent in agents)
    assert results == ["fenced", "published"]
    assert len(list(marks.iterdir())) == 1
    with place.engine() as engine:
        assert LivingAIFlowPersistence(engine).load_pending_feedback("flow-1") is None


def test_an_engine_that_is_closed_says_so(file_place: Place) -> None:
    engine: CheckpointEngine = file_place.engine()
    persistence = LivingAIFlowPersistence(engine)
    persistence.save_state("flow", "m", {})
    engine.close_sync()
    with pytest.raises(Exception, match="engine is closed"):
        persistence.save_state("flow", "m", {})
