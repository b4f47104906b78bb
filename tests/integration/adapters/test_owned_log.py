"""Logs whose entries depend on what is there, with another process that takes them over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.shared_log import SharedLog
from livingai.node import ExecutionNode
from livingai.outcome import Durability, OutcomeStatus
from livingai.runs.ports import ClaimState
from livingai.stores.ranges import NodeRange
from tests.support import owned_logs
from tests.support.framework_places import place
from tests.support.place import Place
from tests.support.processes import TAG
from tests.support.redis_servers import prefix_for, shared_server
from tests.support.waiting import frozen

__all__ = ["place"]
ROUNDS = 30


def entry(name: str) -> ExecutionNode:
    return ExecutionNode("run", id=name)


async def names(log: SharedLog) -> list[str]:
    page = await log.nodes_between("run", NodeRange())
    return [each.node.id for each in sorted(page, key=lambda each: each.first)]


async def test_an_owner_appends_until_another_process_takes_over(state_dir: Place) -> None:
    other = state_dir.agent()
    async with state_dir.engine() as engine:
        log = OwnedLog(SharedLog(engine))
        claim = await log.take_over("run")
        for name in "abc":
            assert await log.append_under(claim, entry(name), {})
        assert other.call(owned_logs.take_over_and_append, "run", "d")
        assert not log.holds("run", claim)
        assert not await log.append_under(claim, entry("e"), {})
        assert await names(log._log) == ["a", "b", "c", "d"]
        claim = await log.take_over("run")
        assert await log.append_under(claim, entry("e"), {}, durability=Durability.STORE)
        assert await names(log._log) == ["a", "b", "c", "d", "e"]


async def test_who_is_displaced_while_it_appends_is_told(
    state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = state_dir.agent()
    async with state_dir.engine() as engine:
        log = OwnedLog(SharedLog(engine))
        claim = await log.take_over("run")
        save = engine.save

        async def slowly(*arguments: Any, **keywords: Any) -> Any:
            receipt = await save(*arguments, **keywords)
            other.call(owned_logs.take_over, "run")
            return receipt

        monkeypatch.setattr(engine, "save", slowly)
        assert not await log.append_under(claim, entry("a"), {}), "it may be stored, or not"
        monkeypatch.undo()
        assert await names(log._log) == ["a"], "it was accepted before, so the other one sees it"


async def test_what_is_written_under_an_earlier_claim_is_fenced(state_dir: Place) -> None:
    other = state_dir.agent()
    async with state_dir.engine() as engine:
        log = OwnedLog(SharedLog(engine))
        claim = await log.take_over("run")
        assert await log.append_under(claim, entry("a"), {})
        other.call(owned_logs.take_over, "run")  # and nothing else: it only looks for now
        receipt = await engine.save(entry("late"), {})
        assert (await receipt).status is OutcomeStatus.FENCED
        assert await names(log._log) == ["a"]


@pytest.mark.redis
async def test_what_was_accepted_when_another_machine_took_over_is_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two state directories on one store are two machines."""
    place = Place(tmp_path, f"{shared_server().url}?prefix={prefix_for(tmp_path)}")
    monkeypatch.setenv(TAG, place.tag)
    async with (
        place.engine(directory=tmp_path / "state") as here,
        place.engine(directory=tmp_path / "elsewhere") as there,
    ):
        log, foreign = OwnedLog(SharedLog(here)), OwnedLog(SharedLog(there))
        claim = await log.take_over("run")
        assert await log.append_under(claim, entry("a"), {}, durability=Durability.STORE)
        pids = place.service_processes()  # so far of this machine alone
        with frozen(pids):
            assert await log.append_under(claim, entry("b"), {"mine": 1}), "nobody here knows"
            other = await foreign.take_over("run")
            assert await names(foreign._log) == ["a"]
            assert await foreign.append_under(other, entry("c"), {}, durability=Durability.STORE)
        await log._log.flush()
        assert await names(foreign._log) == ["a", "c", "b"]
        assert not log.holds("run", claim), "the next comparison is with what is there"
    place.finish()


async def test_the_store_decides_among_those_that_did_not_see_each_other(
    state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = state_dir.agent()
    async with state_dir.engine() as engine:
        log = OwnedLog(SharedLog(engine))
        claim = await log.take_over("run")
        assert await names(log._log) == []
        other.call(owned_logs.take_over, "run")
        # As if its mark had come before there was anything to mark.
        monkeypatch.setattr(engine, "claim_state", lambda *_: ClaimState.HELD)
        assert not await log.append_under(claim, entry("a"), {})
        monkeypatch.undo()
        assert await names(log._log) == []


def test_of_processes_that_begin_at_one_moment_one_is_the_first(place: Place) -> None:
    """Each claims before it can see the others' claims."""
    agents = [place.agent() for _ in range(3)]
    meeting = place.folder / "meeting"
    meeting.mkdir()
    for agent in agents:
        agent.send(owned_logs.win, str(meeting), ROUNDS)
    won = [agent.receive(timeout=300) for agent in agents]
    assert sorted(number for each in won for number in each) == list(range(ROUNDS))
