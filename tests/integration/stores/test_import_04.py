"""``livingai import --from livingai-0.4`` into every kind of store."""

from __future__ import annotations

import json
from typing import Any

from tests.support import acts
from tests.support.agents import ROOT
from tests.support.place import Place
from tests.support.places import command

WRITTEN = ROOT / "tests" / "data" / "livingai-0.4.1" / "agent.db"


def test_it_is_brought_in_once(url: str, state_dir: Place) -> None:
    """Where agents work, by their state directory: read back there, and not added again."""
    agent = state_dir.agent(database=url, directory=state_dir.directory.path)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    added = []
    for _ in range(2):
        told = command(
            state_dir, "import", "--from", "livingai-0.4", WRITTEN, state_dir.directory.path,
            "--json",
        )  # fmt: skip
        assert told.returncode == 0, told
        found: dict[str, Any] = json.loads(told.stdout)
        assert found["verified_checkpoints"] == 20
        added.append(found["added_checkpoints"])
    assert added == [20, 0]
    assert agent.call(acts.latest, "loop")[1] == b"last"
    assert agent.leave() == 0
