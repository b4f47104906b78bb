"""``engine.executions``: pages of executions from every store, queued writes included."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionFilter, ExecutionInfo
from livingai.errors import ConfigurationError
from livingai.stores.opening import open_store
from tests.support import acts
from tests.support.place import Place


def test_pages_of_executions(url: str, state_dir: Place) -> None:
    agent = state_dir.agent(database=url, directory=str(state_dir.folder / "here"))

    def ids(**page: Any) -> tuple[list[str], str | None]:
        lines, after = agent.call(acts.executions, **page)
        return [line[0] for line in lines], after

    assert agent.call(acts.executions) == [[], None]
    for number in range(5):
        status = "failed" if number % 2 else "success"
        node = {"status": status, "metadata": {"tenant": number // 2}}
        agent.call(acts.save, f"b-{number}", node=node)
    agent.call(acts.save, "a", node={"status": "running"})
    agent.call(acts.save, "c")
    lines, after = agent.call(acts.executions)  # nothing waited: the page does
    assert lines[:2] == [["a", "running", 1], ["b-0", "success", 1]]
    assert [line[0] for line in lines] == ["a", "b-0", "b-1", "b-2", "b-3", "b-4", "c"]
    assert after is None
    assert ids(prefix="b-", limit=2) == (["b-0", "b-1"], "b-1")
    assert ids(prefix="b-", limit=2, after="b-1") == (["b-2", "b-3"], "b-3")
    assert ids(prefix="b-", limit=2, after="b-3") == (["b-4"], None)
    assert ids(prefix="b-", limit=5) == (["b-0", "b-1", "b-2", "b-3", "b-4"], None)
    assert ids(prefix="b-", after="a", limit=1) == (["b-0"], "b-0")
    assert ids(prefix="b-", after="c") == ([], None)
    assert ids(where={"statuses": ["failed"]}, limit=1) == (["b-1"], "b-1")
    assert ids(where={"statuses": ["failed"]}, limit=1, after="b-1") == (["b-3"], None)
    assert ids(where={"metadata": {"tenant": 1}}) == (["b-2", "b-3"], None)
    assert ids(where={"statuses": ["failed"], "metadata": {"tenant": 1}}) == (["b-3"], None)
    assert ids(where={"updated_before": 1.0}) == ([], None)
    agent.call(acts.save, "b-1", 1)
    assert agent.call(acts.executions, prefix="b-1") == [[["b-1", "success", 2]], None]


def test_pages_are_typed_lines_and_wrong_requests_are_refused(state_dir: Place) -> None:
    """Typed lines, the same as the store's, from both twins; a request that makes no sense is
    refused before anything is asked."""
    agent = state_dir.agent()
    for number in range(3):
        agent.call(acts.save, f"run-{number}")

    async def ask(engine: CheckpointEngine) -> list[Any]:
        return [await engine.executions(limit=2), await engine.executions(after="run-1")]

    with state_dir.engine() as engine:
        pages = asyncio.run(ask(engine))
        assert pages == [engine.executions_sync(limit=2), engine.executions_sync(after="run-1")]
        assert [len(page) for page in pages] == [2, 1]
        found = [info for page in pages for info in page]
        assert all(type(info) is ExecutionInfo for info in found)
        for limit in (0, -1, 10_001):
            with pytest.raises(ConfigurationError, match="limit must be an integer"):
                engine.executions_sync(limit=limit)
        changed = ExecutionFilter()
        changed.metadata["key"] = [1]  # type: ignore[assignment]
        with pytest.raises(ConfigurationError, match="a text, a number or a bool"):
            engine.executions_sync(where=changed)
    with open_store(f"sqlite:///{state_dir.database}") as store:
        assert found == store.list_executions()
