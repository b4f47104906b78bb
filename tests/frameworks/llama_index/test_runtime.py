"""LlamaIndex workflows on an engine: ``StateStorage``'s contract, and runs that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("workflows")

from pydantic import BaseModel
from workflows.context.serializers import JsonSerializer
from workflows.context.state_store import DictState, StateStorage
from workflows.context.state_store_integration import StateRecord, StateStoreFacade

from livingai import ExecutionNode, NodeType
from livingai.adapters.llama_index import LivingAIRuntime, LivingAIStateStorage, StateHandle
from livingai.errors import (
    ConfigurationError,
    CorruptRowError,
    ExecutionNotFoundError,
    StateEncodingError,
)
from tests.frameworks.llama_index import runs
from tests.support.agents import AgentDied
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place
from tests.support.waiting import until


class Typed(BaseModel):
    n: int = 0
    names: list[str] = []


async def test_a_record_is_loaded_as_it_was_saved(place: Place) -> None:
    async with place.engine() as engine:
        storage = LivingAIStateStorage(engine, "run-1")
        assert isinstance(storage, StateStorage)
        assert storage.run_id == "run-1"
        assert await storage.load() is None
        records = [
            StateRecord(data="text \0 ü", state_type="DictState", state_module="m"),
            StateRecord(data={"_data": {"a": 1}}),
            StateRecord(data=None, state_type="T"),
        ]
        for record in records:
            await storage.save(record)
            assert await storage.load() == record
            async with storage.session() as session:
                assert await session.load() == record
        with pytest.raises(StateEncodingError):
            await storage.save(StateRecord(data=object()))
        assert await storage.load() == records[-1]
        assert await LivingAIStateStorage(engine, "run-2").load() is None
        assert await LivingAIStateStorage(engine, "run-1", namespace="other").load() is None


async def test_handles(file_place: Place) -> None:
    async with file_place.engine() as engine:
        one, two = (LivingAIStateStorage(engine, each) for each in ("one", "two"))
        handle = two.parse_own_handle(one.to_handle())
        assert handle == StateHandle("default", "one")
        for odd in ({}, {"store_type": "sqlite"}, {"store_type": "livingai"},
                    {"store_type": "livingai", "namespace": 1, "run_id": "x"},
                    {"store_type": "livingai", "namespace": "n", "run_id": ""}):  # fmt: skip
            assert two.parse_own_handle(odd) is None
        await two.copy_from_handle(handle)
        assert await two.load() is None
        await one.save(StateRecord(data="state"))
        await two.copy_from_handle(handle)
        assert await two.load() == StateRecord(data="state")
        with pytest.raises(ConfigurationError, match="parse_own_handle"):
            await two.copy_from_handle({"run_id": "one"})  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="run's id"):
            LivingAIStateStorage(engine, "")
        refuses_odd_places(
            lambda given, **keywords: LivingAIStateStorage(given, "run", **keywords), engine
        )


async def test_a_row_of_another_program_is_not_taken_for_a_state(file_place: Place) -> None:
    async with file_place.engine() as engine:
        run = "llama-index:state/default/run"
        for number, odd in enumerate(("text", {"type": "T"}, {"data": 1, "type": 2})):
            entry = f"{run}/state/{number:016x}-{'0' * 8}"
            await engine.save(ExecutionNode(run, NodeType.MEMORY, id=entry), odd)
            with pytest.raises(CorruptRowError, match="another program"):
                await LivingAIStateStorage(engine, "run").load()


async def test_a_state_store_works_on_it(file_place: Place) -> None:
    serializer = JsonSerializer()
    async with file_place.engine() as engine:
        store: Any = StateStoreFacade(LivingAIStateStorage(engine, "run"), DictState, serializer)
        await store.set("user.name", "Ada")
        async with store.edit_state() as state:
            state["n"] = 1
            assert await store.get("n", default=None) is None
        again: Any = StateStoreFacade(LivingAIStateStorage(engine, "run"), DictState, serializer)
        assert await again.get("user.name") == "Ada"
        assert await again.get("n") == 1
        await again.clear()
        assert await store.get("n", default=None) is None
        typed: Any = StateStoreFacade(LivingAIStateStorage(engine, "typed"), Typed, serializer)
        await typed.set_state(Typed(n=1, names=["a"]))
        seeded: Any = StateStoreFacade(LivingAIStateStorage(engine, "seeded"), Typed, serializer)
        seeded.add_seed(await typed.serialize_for_handoff(serializer), serializer)
        assert await seeded.get_state() == Typed(n=1, names=["a"])


# -- runs --


async def test_a_run_has_its_state_and_can_be_handed_on(place: Place, tmp_path: Path) -> None:
    async with place.engine() as engine:
        runtime, workflow = runs.steps_workflow(engine, tmp_path)
        handler = workflow.run(run_id="run-1")
        assert await handler == list(runs.STEPS)
        handed = handler.ctx.to_dict()
        assert handed["state"] == {
            "store_type": "livingai", "namespace": "default", "run_id": "run-1"
        }  # fmt: skip
        kinds = [n.metadata["kind"] for n in await engine.nodes("llama-index:run/default/run-1")]
        assert kinds[:2] == ["TickSessionStart", "TickAddEvent"]
        assert kinds.count("TickStepResult") == 3
        from workflows import Context

        second = workflow.run(ctx=Context.from_dict(workflow, handed), run_id="run-2")
        assert await second == [*runs.STEPS, *runs.STEPS]
        assert await LivingAIStateStorage(engine, "run-1").load() is not None
        with pytest.raises(ExecutionNotFoundError, match="no run nothing is recorded"):
            await runtime.resume(workflow, "nothing")
        refuses_odd_places(LivingAIRuntime, engine)


@pytest.mark.parametrize("die_in", runs.STEPS)
def test_a_run_killed_in_a_step_goes_on_with_it(place: Place, tmp_path: Path, die_in: str) -> None:
    agent = other_process(place)
    agent.send(runs.run, "run-1", str(tmp_path), die_in)
    with pytest.raises(AgentDied):
        agent.receive()
    assert agent.died() == -9
    done = other_process(place).call(runs.run, "run-1", str(tmp_path), resume=True)
    assert done == list(runs.STEPS)
    begun = {name: (tmp_path / name).read_text() for name in runs.STEPS}
    assert begun == {name: "xx" if name == die_in else "x" for name in runs.STEPS}


def test_a_process_whose_run_was_taken_over_ends(place: Place, tmp_path: Path) -> None:
    former, successor = other_process(place), other_process(place)
    former.send(runs.run, "run-1", str(tmp_path), wait_in="two")
    until((tmp_path / "two").exists, what="the second step")
    assert successor.call(runs.run, "run-1", str(tmp_path), resume=True) == list(runs.STEPS)
    (tmp_path / "go on").touch()
    assert former.receive() == "fenced"
    assert (tmp_path / "three").read_text() == "x"


def test_an_acknowledged_state_survives_the_kill(place: Place) -> None:
    reader = other_process(place)
    for number in range(3):
        agent = other_process(place)
        agent.send(runs.save_and_die, "run", f"life {number}")
        with pytest.raises(AgentDied):
            agent.receive()
        assert reader.call(runs.load, "run") == f"life {number}-0"


def test_two_processes_write_at_once(place: Place) -> None:
    names, count = ("a", "b"), 30
    agents = {name: other_process(place) for name in names}
    for name, agent in agents.items():
        agent.call(runs.load, "run")
        agent.send(runs.save_many, "run", name, count)
    for agent in agents.values():
        agent.receive()
    newest = agents["a"].call(runs.load, "run")
    assert newest in {f"{name}-{count - 1}" for name in names}
    with place.engine() as engine:
        assert len(engine.nodes_sync("llama-index:state/default/run")) == 2 * count
