"""An execution moves from one agent to another; the former owner's writes are fenced."""

from __future__ import annotations

import asyncio
import os

import pytest

from livingai import ExecutionNode
from livingai.errors import FencedError
from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, kill

RUN = "run-1"


def save_steps(agent: Agent, first: int, behind: int) -> None:
    """Save steps ``first`` up to ``behind`` (not included) in the foreground."""
    for step in range(first, behind):
        agent.call(acts.save, RUN, step)


def check_newest(place: Place, agents: list[Agent], step: int) -> None:
    """Everybody sees ``step`` as the newest, and the store has the steps 0 to that."""
    for agent in agents:
        assert agent.call(acts.latest, RUN) == [{"step": step}, state_of(RUN, step)]
        assert agent.call(acts.steps, RUN) == list(range(step + 1))
    assert peek.stored_state(place.database, RUN) == state_of(RUN, step)
    assert peek.stored_steps(place.database, RUN) == list(range(step + 1))


def test_zombie_is_fenced(state_dir: Place) -> None:
    first, second, bystander = (state_dir.agent() for _ in range(3))
    save_steps(first, 0, 5)
    assert second.call(acts.latest, RUN) == [{"step": 4}, state_of(RUN, 4)]
    save_steps(second, 5, 10)
    save_steps(first, 100, 105)  # alive, and does not know
    summed = first.call(acts.outcomes)
    assert summed["statuses"].pop("fenced") == 5
    assert summed["statuses"].keys() <= {"met", "late"}
    assert summed["levels"] == {"STORE": 5, "JOURNAL": 5}
    assert any("taken over" in reason for reason in summed["reasons"])
    assert second.settled(5).keys() <= {"met", "late"}
    check_newest(state_dir, [first, second, bystander], 9)
    save_steps(second, 10, 12)
    check_newest(state_dir, [first, second, bystander], 11)


def test_zombie_is_fenced_before_its_writes_are_stored(state_dir: Place) -> None:
    """All of it happens while the service is stopped: what was saved before the takeover counts,
    what was saved behind it does not."""
    first, second = state_dir.agent(), state_dir.agent()
    for agent in (first, second):
        agent.call(acts.save, "warm up")
        agent.settled(1)
    with frozen(state_dir.service_processes()):
        save_steps(first, 0, 5)
        assert second.call(acts.latest, RUN) == [{"step": 4}, state_of(RUN, 4)]
        save_steps(second, 5, 8)
        save_steps(first, 100, 103)
        for agent in (first, second):  # the cache believes the new owner at once
            assert agent.call(acts.latest, RUN) == [{"step": 7}, state_of(RUN, 7)]
    assert first.call(acts.statuses)[6:] == ["fenced"] * 3
    assert first.settled()["fenced"] == 3
    assert second.settled().keys() <= {"met", "late"}
    check_newest(state_dir, [first, second], 7)


def test_stopped_agent_wakes_up_behind_its_successor(state_dir: Place) -> None:
    first, second = state_dir.agent(), state_dir.agent()
    first.call(acts.start, [RUN], interval_s=0.005)
    first.call(acts.saved, 20)
    first.stop()
    output, state = second.call(acts.latest, RUN)
    begun = output["step"]
    assert state == state_of(RUN, begun)
    save_steps(second, begun + 1, begun + 6)
    second.settled(5)
    first.resume()
    first.call(acts.saved, 20)
    rounds = first.call(acts.halt)["rounds"]
    statuses = first.settled(rounds)
    assert statuses.pop("fenced") == rounds - (begun + 1)
    assert sum(statuses.values()) == begun + 1
    check_newest(state_dir, [first, second], begun + 5)


def test_fenced_for_ever_whoever_dies(state_dir: Place) -> None:
    """The store knows: neither a new service nor the successor's death lets the zombie back in."""
    first, second = state_dir.agent(), state_dir.agent()
    save_steps(first, 0, 3)
    second.call(acts.latest, RUN)
    save_steps(second, 3, 6)
    second.settled(3)
    second.kill()
    state_dir.pids()
    kill(*state_dir.service_processes())
    save_steps(first, 100, 103)
    assert first.settled(6)["fenced"] == 3
    third = state_dir.agent()
    check_newest(state_dir, [third], 5)
    save_steps(third, 6, 8)
    check_newest(state_dir, [first, third], 7)


def test_without_a_state_the_predecessors_counts(state_dir: Place) -> None:
    """A successor that has recorded a node only: the newest state is still the predecessor's."""
    first, second = state_dir.agent(), state_dir.agent()
    save_steps(first, 0, 3)
    second.call(acts.save, RUN, 3, size=None)
    for agent in (first, second):
        assert agent.call(acts.latest, RUN) == [{"step": 2}, state_of(RUN, 2)]
    first.call(acts.save, RUN, 100)
    assert first.settled(4)["fenced"] == 1
    assert second.call(acts.latest, RUN) == [{"step": 2}, state_of(RUN, 2)]


def test_claim_takes_it_back(state_dir: Place) -> None:
    first, second = state_dir.agent(), state_dir.agent()
    save_steps(first, 0, 3)
    second.call(acts.latest, RUN)
    save_steps(second, 3, 6)
    epoch = first.call(acts.claim, RUN)
    assert first.call(acts.latest, RUN) == [{"step": 5}, state_of(RUN, 5)]
    save_steps(first, 6, 9)
    second.call(acts.save, RUN, 100)
    assert second.settled(4)["fenced"] == 1
    check_newest(state_dir, [first, second], 8)
    assert second.call(acts.claim, RUN) > epoch


def test_claim_fences_before_anything_is_saved(state_dir: Place) -> None:
    first, second = state_dir.agent(), state_dir.agent()
    save_steps(first, 0, 3)
    epoch = second.call(acts.claim, RUN)
    save_steps(first, 100, 102)
    assert first.settled(5)["fenced"] == 2
    check_newest(state_dir, [first, second], 2)
    save_steps(second, 3, 5)
    assert second.settled(2).keys() <= {"met", "late"}
    assert {e for e, _ in peek.stored_versions(state_dir.database, RUN)} == {epoch - 1, epoch}


def test_through_the_store_alone(state_dir: Place) -> None:
    """Two state directories on one database, as two hosts would have them: no cache, no service in
    common, and the epoch in the store decides."""
    here = state_dir.agent()
    there = state_dir.agent(directory=str(state_dir.folder / "other host"))
    save_steps(here, 0, 3)
    here.settled(3)
    assert there.call(acts.latest, RUN) == [{"step": 2}, state_of(RUN, 2)]
    there.call(acts.claim, RUN)
    save_steps(there, 3, 6)
    there.settled(3)
    here.call(acts.save, RUN, 100)
    assert here.settled(4)["fenced"] == 1
    check_newest(state_dir, [there, here], 5)
    assert peek.stored_steps(state_dir.database, RUN) == list(range(6))


def test_engines_of_one_process_are_one_owner(state_dir: Place) -> None:
    async def main() -> None:
        async with state_dir.engine() as first, state_dir.engine() as second:
            receipts = []
            for step in range(10):
                engine = (first, second)[step % 2]
                receipts.append(await engine.save(acts.make_node(RUN, step), state_of(RUN, step)))
                assert (await engine.latest(RUN))[1] == state_of(RUN, step)
                assert (await (second, first)[step % 2].latest(RUN))[1] == state_of(RUN, step)
            for receipt in receipts:
                assert (await receipt).stored
            assert first.sla().saves == second.sla().saves == 5
            await first.close()
            assert (await (await second.save(acts.make_node(RUN, 10), b"last"))).stored

    asyncio.run(main())
    assert peek.stored_steps(state_dir.database, RUN) == list(range(11))
    assert {epoch for epoch, _ in peek.stored_versions(state_dir.database, RUN)} == {1}


def test_claim_of_two_at_once(state_dir: Place) -> None:
    """One of them owns it then, and only that one can write."""
    crew = [state_dir.agent() for _ in range(2)]
    for agent in crew:
        agent.call(acts.save, "warm up")
    for agent in crew:
        agent.send(acts.claim, RUN)
    epochs: list[int] = []
    for agent in crew:
        try:
            epochs.append(agent.receive())
        except FencedError:
            epochs.append(0)
    assert len(set(epochs)) == 2
    for agent in crew:
        agent.call(acts.save, RUN, 0)
    told = [agent.call(acts.statuses)[-1] for agent in crew]
    assert told[epochs.index(min(epochs))] == "fenced"
    assert told[epochs.index(max(epochs))] in ("met", "late")


def test_next_process_goes_on_after_a_death(state_dir: Place) -> None:
    for generation in range(4):
        agent = state_dir.agent()
        if generation:
            expected = 3 * generation - 1
            assert agent.call(acts.latest, RUN) == [{"step": expected}, state_of(RUN, expected)]
        save_steps(agent, 3 * generation, 3 * generation + 3)
        agent.kill()
    survivor = state_dir.agent()
    check_newest(state_dir, [survivor], 11)
    versions = peek.stored_versions(state_dir.database, RUN)
    assert versions == [(epoch, seq) for epoch in range(1, 5) for seq in range(1, 4)]


def test_unknown_execution_is_not_found(state_dir: Place) -> None:
    from livingai.errors import ExecutionNotFoundError, NodeNotFoundError

    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode(RUN), b"state")
        with pytest.raises(ExecutionNotFoundError, match="nobody"):
            engine.latest_sync("nobody")
        with pytest.raises(LookupError, match="nothing"):
            engine.load_sync("nothing")
        with pytest.raises(NodeNotFoundError):
            engine.load_sync(RUN)
        with pytest.raises(ExecutionNotFoundError):
            engine.nodes_sync("nobody")
        assert os.path.isdir(state_dir.directory.path)
