"""A cursor that says more than is true, beside a living agent that would use its segments again."""

from __future__ import annotations

from contextlib import closing

import pytest

from livingai.queue.cursor import CursorFile
from livingai.queue.segment import segment_name
from tests.support import acts, peek
from tests.support.journals import segment_files, untrue_cursor
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import until

SAVES, SIZE = 12, 20_000


def lsn(journal: str) -> int:
    """What the cursor says."""
    with closing(CursorFile(journal, int(journal.rpartition("/")[2], 16))) as file:
        return file.read().lsn


def test_nothing_that_waits_is_overwritten(
    state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No service is there to find it out, and the first one cannot correct it at once."""
    agent = state_dir.agent(
        service="attach", segment_bytes=65_536, cache_bytes=1, patch_from_bytes=1 << 20
    )
    for step in range(SAVES // 2):
        agent.call(acts.save, "run-1", step, size=SIZE)
    (journal,) = state_dir.journals()
    untrue_cursor(journal, SAVES // 2)
    for step in range(SAVES // 2, SAVES):
        agent.call(acts.save, "run-1", step, size=SIZE)
    assert segment_files(journal)[0].name == segment_name(1)
    tokens = state_dir.folder / "tokens"
    tokens.mkdir()
    state_dir.tracebacks_allowed = True  # armed failpoints are warned of
    monkeypatch.setenv("LIVINGAI_TESTING", "1")
    monkeypatch.setenv("LIVINGAI_FAILPOINTS", "dispatcher.before_cursor=error*1")
    monkeypatch.setenv("LIVINGAI_FAILPOINT_TOKENS", str(tokens))
    with state_dir.service():
        assert agent.settled(SAVES).keys() <= {"met", "late"}
        assert peek.stored_steps(state_dir.database, "run-1") == list(range(SAVES))
        assert peek.stored_state(state_dir.database, "run-1") == state_of("run-1", SAVES - 1, SIZE)
        assert list(tokens.iterdir()), "the correction has not failed"
        until(lambda: lsn(journal) == SAVES, what="a cursor that is true")
    assert agent.leave() == 0
    assert state_dir.journals() == [], "it was stored"
