"""Ranges of nodes and their removal, asked by an agent: its own queued writes, pages, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode, NodeRange, Status
from livingai.errors import ConfigurationError
from tests.support.patience import patience
from tests.support.place import Place

RUN = "run-1"


def save(engine: CheckpointEngine, name: str, state: bytes | None = None) -> None:
    engine.save_sync(ExecutionNode(RUN, id=f"{RUN}/{name}", status=Status.SUCCESS), state)


def names(page: Any) -> list[str]:
    return [each.node.id.removeprefix(f"{RUN}/") for each in page]


def test_pages_have_what_was_just_saved(state_dir: Place) -> None:
    with CheckpointEngine(state_dir.store()) as engine:
        assert len(engine.nodes_between_sync(RUN, NodeRange())) == 0
        for number in range(7):
            save(engine, f"{number * 3 % 7}", b"state %d" % number if number % 2 else None)
        page = engine.nodes_between_sync(RUN, NodeRange(limit=5))
        assert names(page) == list("01234")
        assert [each.state for each in page] == [None, b"state 5", b"state 3", b"state 1", None]
        assert [each.first for each in page] == [each.version for each in page]
        assert page.rest is not None
        last = engine.nodes_between_sync(RUN, page.rest)
        assert (names(last), last.rest) == (["5", "6"], None)
        second = page.nodes[1].first
        window = NodeRange(after=second, backwards=True, states=False)
        later = engine.nodes_between_sync(RUN, window)
        assert {each.first > second for each in later} == {True}
        assert {each.state for each in later} == {None}
        pages = engine.node_pages_sync(RUN, [NodeRange(limit=1), window, NodeRange("x")])
        assert [names(each) for each in pages] == [["0"], names(later), []]


async def test_removed_nodes_do_not_come_back(state_dir: Place) -> None:
    async with CheckpointEngine(state_dir.store()) as engine:
        for number in range(6):
            save(engine, f"{number}", b"state" if number == 4 else None)
        gone = [f"{RUN}/{number}" for number in (0, 1, 4, 5)]
        kept = (f"{RUN}/4", f"{RUN}/5")
        assert await engine.drop_nodes(RUN, gone) == (2, 0, kept)
        assert names(await engine.nodes_between(RUN, NodeRange())) == ["2", "3", "4", "5"]
        assert await engine.drop_nodes(RUN, gone) == (0, 0, kept)
        save(engine, "0", b"anew")
        page = await engine.nodes_between(RUN, NodeRange(limit=1))
        assert [(each.node.id, each.state) for each in page] == [(f"{RUN}/0", b"anew")]
        assert (await engine.drop_nodes(RUN, gone)).nodes == 2
        await engine.flush(timeout=patience(30))
        assert [node.id for node in await engine.nodes(RUN)] == [f"{RUN}/{n}" for n in (2, 3, 0)]


def test_what_cannot_be_asked_is_refused(state_dir: Place) -> None:
    """And nothing was removed."""
    no_ids: list[Any] = [f"{RUN}/0", b"ab", 7, None, ["\ud800"], [7], {"a": 1, 2: 3}]
    no_ranges: list[Any] = [None, "a", ("", None), {"first": ""}]
    with CheckpointEngine(state_dir.store()) as engine:
        save(engine, "0")
        save(engine, "1")
        for node_ids in no_ids:
            with pytest.raises(ConfigurationError, match="node"):
                engine.drop_nodes_sync(RUN, node_ids)
        for asked in no_ranges:
            with pytest.raises(ConfigurationError, match="a range of nodes is a NodeRange"):
                engine.nodes_between_sync(RUN, asked)
            with pytest.raises(ConfigurationError, match="a range of nodes is a NodeRange"):
                engine.node_pages_sync(RUN, [NodeRange(), asked])
        with pytest.raises(ConfigurationError, match="execution_id"):
            engine.nodes_between_sync("\ud800", NodeRange())
        assert names(engine.nodes_between_sync(RUN, NodeRange())) == ["0", "1"]
