"""Checkpoints of crews: a crew that was killed goes on in another process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("crewai")

from crewai import Crew
from crewai.state.checkpoint_config import CheckpointConfig

from livingai import CheckpointEngine
from livingai.adapters.crewai import LivingAICheckpointProvider
from livingai.errors import CorruptRowError, ExecutionNotFoundError, NodeNotFoundError
from livingai.node import ExecutionNode
from tests.frameworks.crewai import crews
from tests.frameworks.crewai.crews import PLACE
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place
from tests.support.waiting import until


def test_a_killed_crew_goes_on_behind_its_last_task(place: Place) -> None:
    told = place.folder / "told"
    one, two = other_process(place), other_process(place)
    one.send(crews.run, str(told), "second")
    assert one.died() == -9
    assert told.read_text().split() == ["first", "second"]
    assert two.call(crews.resume, str(told)) == "answer of the second one"
    assert told.read_text().split() == ["first", "second", "second"]
    with place.engine() as engine:
        provider = LivingAICheckpointProvider(engine)

        def parent() -> str:
            """Of the newest checkpoint, once it is that of the second task."""
            data = json.loads(provider.from_checkpoint(provider.newest(PLACE) or ""))
            return str(data["parent_id"] or "")

        first = until(parent, what="a checkpoint of the second task", timeout=60)
        newest = provider.newest(PLACE)
        assert newest is not None
        before = json.loads(provider.from_checkpoint(newest[: -len(first)] + first))
        assert before["parent_id"] is None
        assert provider.newest(PLACE, branch="other") is None


def test_the_config_of_a_crew_takes_it(file_place: Place) -> None:
    with file_place.engine() as engine:
        provider = LivingAICheckpointProvider(engine)
        config = CheckpointConfig(location="a", provider=provider)
        assert config.provider is provider
        assert config.model_copy().provider is provider
        json.loads(config.model_dump_json())


async def test_checkpoints_are_kept_by_branch_and_pruned(place: Place) -> None:
    async with place.engine() as engine:
        provider = LivingAICheckpointProvider(engine)
        places = [
            provider.checkpoint(json.dumps({"n": n, "pad": "x" * 5000, "parent_id": None}), "here")
            for n in range(10)
        ]
        other = await provider.acheckpoint('{"n": -1}', "here", parent_id="p", branch="fork/x")
        assert await provider.afrom_checkpoint(other) == '{"n": -1}'
        assert provider.newest("here") == places[-1]
        assert provider.newest("here", branch="fork/x") == other
        assert provider.newest("elsewhere") is None
        removed = provider.prune("here", 3)
        assert 0 < removed <= 7
        assert [json.loads(provider.from_checkpoint(each))["n"] for each in places[-3:]] == [
            7,
            8,
            9,
        ]
        with pytest.raises(NodeNotFoundError):
            provider.from_checkpoint(places[0] if removed == 7 else f"{places[0]}-no")
        assert provider.prune("here", 3, branch="fork/x") == 0
        provider.flush()


def test_what_makes_no_sense_is_refused(file_place: Place, tmp_path: Path) -> None:
    del tmp_path
    with file_place.engine() as engine:
        refuses_odd_places(LivingAICheckpointProvider, engine)
        provider = LivingAICheckpointProvider(engine)
        with pytest.raises(ExecutionNotFoundError, match="branch 'main'"):
            provider.restoring("nowhere").__enter__()
        _refuses_foreign(engine, provider)


def _refuses_foreign(engine: CheckpointEngine, provider: LivingAICheckpointProvider) -> None:
    node = ExecutionNode("crewai:checkpoints/x", id="crewai:checkpoints/x/main/odd")
    engine.save_sync(node, {"not": "text"})
    with pytest.raises(CorruptRowError, match="another program"):
        provider.from_checkpoint(node.id)
    with pytest.raises(CorruptRowError), provider.restoring("x", node.id) as config:
        Crew.from_checkpoint(config)
