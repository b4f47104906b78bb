"""An execution moves from one agent to another; the former owner's writes are fenced."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from livingai import ExecutionNode
from livingai.errors import FencedError
from livingai.queue.tail import JournalTail
from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, gone, kill, until


def save_steps(place: Place, agent: Agent, first: int, behind: int) -> None:
    """Save steps ``first`` up to ``behind`` (not included) in the foreground."""
    for step in range(first, behind):
        agent.call(acts.save, place.run, step)


def check_newest(place: Place, agents: list[Agent], step: int) -> None:
    """Everybody sees ``step`` as the newest, and the store has the steps 0 to that."""
    for agent in agents:
        assert agent.call(acts.latest, place.run) == [{"step": step}, state_of(place.run, step)]
        assert agent.call(acts.steps, place.run) == list(range(step + 1))
    assert peek.stored_state(place.database, place.run) == state_of(place.run, step)
    assert peek.stored_steps(place.database, place.run) == list(range(step + 1))


def test_zombie_is_fenced(served: Place) -> None:
    first, second, bystander = (served.agent() for _ in range(3))
    save_steps(served, first, 0, 5)
    assert second.call(acts.latest, served.run) == [{"step": 4}, state_of(served.run, 4)]
    save_steps(served, second, 5, 10)
    save_steps(served, first, 100, 105)  # alive, and does not know
    summed = first.call(acts.outcomes)
    assert summed["statuses"].pop("fenced") == 5
    assert summed["statuses"].keys() <= {"met", "late"}
    assert summed["levels"] == {"STORE": 5, "JOURNAL": 5}
    assert any("taken over" in reason for reason in summed["reasons"])
    assert second.settled(5).keys() <= {"met", "late"}
    check_newest(served, [first, second, bystander], 9)
    save_steps(served, second, 10, 12)
    check_newest(served, [first, second, bystander], 11)


def test_zombie_is_fenced_before_its_writes_are_stored(served: Place) -> None:
    """All of it happens while the service is stopped: what was saved before the takeover counts,
    what was saved behind it does not."""
    first, second = served.agent(), served.agent()
    for agent in (first, second):
        agent.call(acts.save, "warm up")
        agent.settled(1)
    with frozen(served.service_processes()):
        save_steps(served, first, 0, 5)
        assert second.call(acts.latest, served.run) == [{"step": 4}, state_of(served.run, 4)]
        save_steps(served, second, 5, 8)
        save_steps(served, first, 100, 103)
        for agent in (first, second):  # the cache follows the new owner at once
            assert agent.call(acts.latest, served.run) == [{"step": 7}, state_of(served.run, 7)]
    assert first.call(acts.statuses)[6:] == ["fenced"] * 3
    assert first.settled()["fenced"] == 3
    assert second.settled().keys() <= {"met", "late"}
    check_newest(served, [first, second], 7)


def test_stopped_agent_wakes_up_behind_its_successor(served: Place) -> None:
    first, second = served.agent(), served.agent()
    first.call(acts.start, [served.run], interval_s=0.005)
    first.call(acts.saved, 20)
    first.stop()
    output, state = second.call(acts.latest, served.run)
    begun = output["step"]
    assert state == state_of(served.run, begun)
    save_steps(served, second, begun + 1, begun + 6)
    second.settled(5)
    first.resume()
    first.call(acts.saved, 20)
    rounds = first.call(acts.halt)["rounds"]
    statuses = first.settled(rounds)
    assert statuses.pop("fenced") == rounds - (begun + 1)
    assert sum(statuses.values()) == begun + 1
    check_newest(served, [first, second], begun + 5)


def test_a_zombie_stays_fenced_whichever_process_dies(state_dir: Place) -> None:
    """The store knows: neither a new service nor the successor's death lets the zombie back in."""
    first, second = state_dir.agent(), state_dir.agent()
    save_steps(state_dir, first, 0, 3)
    second.call(acts.latest, state_dir.run)
    save_steps(state_dir, second, 3, 6)
    second.settled(3)
    second.kill()
    state_dir.pids()
    kill(*state_dir.service_processes())
    save_steps(state_dir, first, 100, 103)
    assert first.settled(6)["fenced"] == 3
    third = state_dir.agent()
    check_newest(state_dir, [third], 5)
    save_steps(state_dir, third, 6, 8)
    check_newest(state_dir, [first, third], 7)


def test_the_predecessors_state_counts_until_the_successor_has_one(served: Place) -> None:
    """A successor that has recorded a node only: the newest state is still the predecessor's."""
    first, second = served.agent(), served.agent()
    save_steps(served, first, 0, 3)
    second.call(acts.save, served.run, 3, size=None)
    for agent in (first, second):
        assert agent.call(acts.latest, served.run) == [{"step": 2}, state_of(served.run, 2)]
    first.call(acts.save, served.run, 100)
    assert first.settled(4)["fenced"] == 1
    assert second.call(acts.latest, served.run) == [{"step": 2}, state_of(served.run, 2)]


def test_a_claim_takes_the_execution_back(served: Place) -> None:
    first, second = served.agent(), served.agent()
    save_steps(served, first, 0, 3)
    second.call(acts.latest, served.run)
    save_steps(served, second, 3, 6)
    epoch = first.call(acts.claim, served.run)
    assert first.call(acts.latest, served.run) == [{"step": 5}, state_of(served.run, 5)]
    save_steps(served, first, 6, 9)
    second.call(acts.save, served.run, 100)
    assert second.settled(4)["fenced"] == 1
    check_newest(served, [first, second], 8)
    assert second.call(acts.claim, served.run) > epoch


def test_claim_fences_before_anything_is_saved(served: Place) -> None:
    first, second = served.agent(), served.agent()
    save_steps(served, first, 0, 3)
    epoch = second.call(acts.claim, served.run)
    save_steps(served, first, 100, 102)
    assert first.settled(5)["fenced"] == 2
    check_newest(served, [first, second], 2)
    save_steps(served, second, 3, 5)
    assert second.settled(2).keys() <= {"met", "late"}
    assert {e for e, _ in peek.stored_versions(served.database, served.run)} == {epoch - 1, epoch}


def test_between_two_hosts_the_store_decides(served: Place) -> None:
    """Two state directories on one database, as two hosts would have them: no cache, no service in
    common, and the epoch in the store decides."""
    here = served.agent()
    there = served.agent(directory=str(served.folder / "other host"))
    save_steps(served, here, 0, 3)
    here.settled(3)
    assert there.call(acts.latest, served.run) == [{"step": 2}, state_of(served.run, 2)]
    there.call(acts.claim, served.run)
    save_steps(served, there, 3, 6)
    there.settled(3)
    here.call(acts.save, served.run, 100)
    assert here.settled(4)["fenced"] == 1
    check_newest(served, [there, here], 5)
    assert peek.stored_steps(served.database, served.run) == list(range(6))


def test_fenced_while_its_service_was_away(state_dir: Place) -> None:
    """The store is shared with another host. The service that learns of the fenced write writes it
    into the journal, where the agent finds it when it connects: its own state does not count then,
    either."""
    here = state_dir.agent()
    here.call(acts.save, state_dir.run, 0)
    here.settled(1)
    services = state_dir.service_processes()
    with frozen(services):
        here.call(acts.save, state_dir.run, 100)
        here.stop()  # before it finds that its service does not answer, and starts another one
        there = state_dir.agent(directory=str(state_dir.folder / "other host"))
        there.call(acts.claim, state_dir.run)
        there.call(acts.save, state_dir.run, 1)
        there.settled(1)
        kill(*services)
    gone(*services)
    [path] = state_dir.journals()
    with state_dir.service(), closing(JournalTail(path)) as tail:
        found = list(tail.read(alive=True))
        assert [peek.has_outcome(tail, record) for record in found[:-1]]
        until(lambda: peek.has_outcome(tail, found[-1]), what="an outcome in the journal")
        here.resume()
        assert here.settled(2)["fenced"] == 1
        for agent in (here, there):
            assert agent.call(acts.latest, state_dir.run) == [
                {"step": 1}, state_of(state_dir.run, 1)
            ]  # fmt: skip
        assert peek.stored_steps(state_dir.database, state_dir.run) == [0, 1]
        assert here.leave() == 0


def test_a_claim_brings_no_older_state_back(state_dir: Place) -> None:
    """A process of another state directory has written since: nothing here was marked."""
    here, bystander = state_dir.agent(), state_dir.agent()
    there = state_dir.agent(directory=str(state_dir.folder / "other host"))
    here.call(acts.save, state_dir.run, 0)
    here.settled(1)
    there.call(acts.claim, state_dir.run)
    there.call(acts.save, state_dir.run, 1)
    there.settled(1)
    assert here.call(acts.claim, state_dir.run) == 3
    for agent in (here, bystander):
        assert agent.call(acts.latest, state_dir.run) == [{"step": 1}, state_of(state_dir.run, 1)]


def test_claimed_anew_before_it_is_known_to_be_fenced(state_dir: Place) -> None:
    """What the slot has kept of the fenced claim is not the newest state for anybody."""
    here = state_dir.agent()
    bystander = state_dir.agent()
    here.call(acts.save, state_dir.run, 0)
    here.settled(1)
    there = state_dir.agent(directory=str(state_dir.folder / "other host"))
    there.call(acts.claim, state_dir.run)
    there.call(acts.save, state_dir.run, 1)
    there.settled(1)
    newest = [{"step": 1}, state_of(state_dir.run, 1)]
    assert here.call(acts.save_claim_latest, state_dir.run, 100) == [3, newest]
    assert here.settled(2)["fenced"] == 1
    for agent in (here, bystander):
        assert agent.call(acts.latest, state_dir.run) == newest
    here.call(acts.save, state_dir.run, 2)
    assert bystander.call(acts.latest, state_dir.run) == [{"step": 2}, state_of(state_dir.run, 2)]
    assert "fenced" not in there.settled(1)


def test_displaced_owner_does_not_take_back(served: Place) -> None:
    """Its entry of the index was displaced by other executions, so the successor found nothing to
    mark. What it saves then is fenced all the same, and the successor goes on."""
    first, second, bystander = (served.agent() for _ in range(3))
    save_steps(served, first, 0, 3)
    first.call(acts.displace, served.run)
    save_steps(served, second, 3, 5)
    first.call(acts.save, served.run, 100)
    first.call(acts.save, served.run, 101)
    assert first.settled()["fenced"] == 2
    save_steps(served, second, 5, 6)
    check_newest(served, [first, second, bystander], 5)
    assert "fenced" not in second.settled(3)


def test_displaced_owner_goes_on(served: Place) -> None:
    """Nobody has taken over: it goes on under its claim, and everybody sees what it saves."""
    agent, bystander = served.agent(), served.agent()
    save_steps(served, agent, 0, 3)
    epoch = agent.call(acts.claim, served.run)
    for step in range(3, 6):
        agent.call(acts.displace, served.run)
        assert agent.call(acts.latest, served.run)[0] == {"step": step - 1}
        save_steps(served, agent, step, step + 1)
        assert bystander.call(acts.latest, served.run)[0] == {"step": step}
    assert "fenced" not in agent.settled()
    check_newest(served, [agent, bystander], 5)
    assert agent.call(acts.claim, served.run) == epoch + 1


def test_engines_of_one_process_are_one_owner(served: Place) -> None:
    async def main() -> None:
        async with served.engine() as first, served.engine() as second:
            receipts = []
            for step in range(10):
                engine = (first, second)[step % 2]
                receipts.append(
                    await engine.save(acts.make_node(served.run, step), state_of(served.run, step))
                )
                assert (await engine.latest(served.run))[1] == state_of(served.run, step)
                assert (await (second, first)[step % 2].latest(served.run))[1] == state_of(
                    served.run, step
                )
            for receipt in receipts:
                assert (await receipt).stored
            assert first.sla().saves == second.sla().saves == 5
            await first.close()
            assert (await (await second.save(acts.make_node(served.run, 10), b"last"))).stored

    asyncio.run(main())
    assert peek.stored_steps(served.database, served.run) == list(range(11))
    assert {epoch for epoch, _ in peek.stored_versions(served.database, served.run)} == {1}


def test_of_two_claims_at_once_one_wins(served: Place) -> None:
    """One of them owns it then, and only that one can write."""
    crew = [served.agent() for _ in range(2)]
    for agent in crew:
        agent.call(acts.save, "warm up")
    for agent in crew:
        agent.send(acts.claim, served.run)
    epochs: list[int] = []
    for agent in crew:
        try:
            epochs.append(agent.receive())
        except FencedError:
            epochs.append(0)
    assert len(set(epochs)) == 2
    for agent in crew:
        agent.call(acts.save, served.run, 0)
    told = [agent.call(acts.statuses)[-1] for agent in crew]
    assert told[epochs.index(min(epochs))] == "fenced"
    assert told[epochs.index(max(epochs))] in ("met", "late")


def test_next_process_goes_on_after_a_death(served: Place) -> None:
    for generation in range(4):
        agent = served.agent()
        if generation:
            expected = 3 * generation - 1
            assert agent.call(acts.latest, served.run) == [
                {"step": expected},
                state_of(served.run, expected),
            ]
        save_steps(served, agent, 3 * generation, 3 * generation + 3)
        agent.kill()
    survivor = served.agent()
    check_newest(served, [survivor], 11)
    versions = peek.stored_versions(served.database, served.run)
    assert versions == [(epoch, seq) for epoch in range(1, 5) for seq in range(1, 4)]


def test_unknown_execution_is_not_found(served: Place) -> None:
    from livingai.errors import ExecutionNotFoundError, NodeNotFoundError

    with served.engine() as engine:
        engine.save_sync(ExecutionNode(served.run), b"state")
        with pytest.raises(ExecutionNotFoundError, match="missing"):
            engine.latest_sync("missing")
        with pytest.raises(LookupError, match="nothing"):
            engine.load_sync("nothing")
        with pytest.raises(NodeNotFoundError):
            engine.load_sync(served.run)
        with pytest.raises(ExecutionNotFoundError):
            engine.nodes_sync("missing")
        assert os.path.isdir(served.directory.path)


def unpublished(journal: str) -> Iterator[bool]:
    """For each record behind the published tail: whether it has its outcome."""
    with closing(JournalTail(journal)) as tail:
        for found in tail.read(alive=False):
            if found.position >= tail.control.tail:
                yield peek.has_outcome(tail, found)


@pytest.mark.parametrize("failpoint", ["journal.after_append", "journal.before_publish"])
def test_dead_before_its_first_record_was_published(served: Place, failpoint: str) -> None:
    """It dies in the middle of its first save, and is found after its successor: a write that
    was never acknowledged does not make a dead process the newest owner."""
    before = set(served.journals())
    first = served.agent(env={"LIVINGAI_FAILPOINTS": f"{failpoint}=pause:600*2"})
    first.call(acts.save, f"{served.run} warm up")
    (journal,) = set(served.journals()) - before
    first.send(acts.save, served.run, 100)
    until(lambda: list(unpublished(journal)), what="a record behind the tail")
    second = served.agent()
    save_steps(served, second, 0, 3)
    assert second.settled(3).keys() <= {"met", "late"}
    first.kill()
    until(lambda: all(unpublished(journal)), what="its outcome")
    save_steps(served, second, 3, 6)
    assert second.settled(6).keys() <= {"met", "late"}
    check_newest(served, [second], 5)
