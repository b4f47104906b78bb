"""EIO: the disk fails at one step of a write, in an agent or in the service. A save is accepted or
raises a typed error, and what was accepted is stored, once."""

from __future__ import annotations

import pytest

from livingai.errors import JournalError
from tests.support import acts, peek
from tests.support.place import Place
from tests.support.states import state_of

#: Failpoints of writes and syncs, and which hit of them fails.
STEPS = [
    "journal.before_append=error*7", "journal.after_append=error*7",
    "journal.before_fsync=error*3", "rotate.after_create=error*2",
    "dispatcher.before_cursor=error*1", "sqlite.before_commit=error*3",
]  # fmt: skip
SAVES, SIZE = 24, 20_000


@pytest.mark.parametrize("steps", [STEPS[:1] + STEPS[3:4], STEPS[1:3], STEPS[4:]], ids=str)
def test_one_failure(state_dir: Place, steps: list[str]) -> None:
    tokens = state_dir.folder / "tokens"
    tokens.mkdir()
    env = {"LIVINGAI_FAILPOINTS": ";".join(steps), "LIVINGAI_FAILPOINT_TOKENS": str(tokens)}
    # Segments for three whole states.
    agent = state_dir.agent(env=env, segment_bytes=65_536, patch_from_bytes=1 << 20)
    state_dir.tracebacks_allowed = True  # armed failpoints are warned of
    refused = 0
    for step in range(SAVES):
        while True:
            try:
                agent.call(
                    acts.save, "run-1", step, size=SIZE, level=("JOURNAL", "FSYNC")[step % 2]
                )
            except JournalError:
                refused += 1
            else:
                break
        assert refused <= len(steps)
        assert agent.call(acts.latest, "run-1") == [{"step": step}, state_of("run-1", step, SIZE)]
    assert agent.settled(SAVES).keys() <= {"met", "late"}
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(SAVES))
    assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", SAVES - 1, SIZE)
    assert len(list(tokens.iterdir())) == len(steps), "not all of them failed"
