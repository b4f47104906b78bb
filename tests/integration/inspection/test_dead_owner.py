"""The check looks at the journal of a dead owner while the service holds it."""

from __future__ import annotations

import pytest

from livingai.inspection.check import check_directory
from tests.support import acts, peek
from tests.support.agents import AgentDied
from tests.support.place import Place


@pytest.mark.parametrize("nth", [1, 3])
def test_a_record_that_its_owner_never_published(state_dir: Place, nth: int) -> None:
    """It is complete, so the service stores it, and its cursor passes the published tail."""
    keeper = state_dir.agent()
    keeper.call(acts.save, "keeper")
    agent = state_dir.agent(env={"LIVINGAI_FAILPOINTS": f"journal.before_publish=kill*{nth}"})
    for step in range(nth - 1):
        agent.call(acts.save, "run-1", step)
    with pytest.raises(AgentDied):
        agent.call(acts.save, "run-1", nth - 1)
    keeper.call(acts.drain)
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(nth))
    report = check_directory(state_dir.directory.path)
    assert report.counts["journals"] == 2
    assert report.ok, report.errors
