"""What a listing reads, by counting what the engine is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("langgraph")

from livingai import CheckpointEngine
from livingai.adapters.langgraph import LivingAISaver
from livingai.protocol.ranges import NodePage
from livingai.stores.ranges import NodeRange
from tests.frameworks.langgraph.graphs import config_of, named, put
from tests.support.place import Place


class Counted:
    """How much was read: nodes, states of checkpoints, and round trips."""

    def __init__(self) -> None:
        self.nodes = self.states = self.trips = 0

    def add(self, pages: Sequence[NodePage]) -> None:
        self.trips += 1
        self.nodes += sum(len(page) for page in pages)
        self.states += sum(each.state is not None for page in pages for each in page)


@contextmanager
def counting(engine: CheckpointEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Count what is read inside the block."""
    counted = Counted()
    one = engine.nodes_between_sync

    def nodes_between(execution_id: str, asked: NodeRange) -> NodePage:
        page = one(execution_id, asked)
        counted.add([page])
        return page

    def counts(read: Callable[..., list[NodePage]]) -> Callable[..., list[NodePage]]:
        def counting(execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
            pages = read(execution_id, asked)
            counted.add(pages)
            return pages

        return counting

    with monkeypatch.context() as patch:
        patch.setattr(engine, "nodes_between_sync", nodes_between)
        for method in ("node_pages_sync", "stored_pages_sync"):
            patch.setattr(engine, method, counts(getattr(engine, method)))
        yield counted


COUNT = 300


def fill(saver: LivingAISaver, thread: str, count: int, namespace: str = "") -> None:
    for number in range(count):
        config = put(
            saver, thread, f"{number:04}", {"at": number}, namespace=namespace,
            metadata={"even": number % 2 == 0},
        )  # fmt: skip
        saver.put_writes(config, [("at", number)], "task")


def ids(found: Any) -> list[str]:
    return [each.checkpoint["id"] for each in found]


def test_a_listing_reads_what_it_gives_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        fill(saver, "t", COUNT)
        for limit in (1, 2, 10):
            with counting(engine, monkeypatch) as read:
                assert len(ids(saver.list(config_of("t"), limit=limit))) == limit
            assert read.states == limit
            # Places, states, writes; one of each more; and where the namespace begins.
            assert read.nodes <= 3 * limit + 3
        with counting(engine, monkeypatch) as read:
            listing = saver.list(config_of("t"))
            assert next(listing).checkpoint["id"] == f"{COUNT - 1:04}"
        assert read.states <= 4
        assert read.nodes <= 30
        listing.close()  # type: ignore[attr-defined]
        with counting(engine, monkeypatch) as read:
            before = named("t", f"{COUNT - 100:04}")
            assert ids(saver.list(named_thread("t"), before=before, limit=2)) == ["0199", "0198"]
        assert (read.states, read.nodes) == (2, 3 + 2 + 2)
        with counting(engine, monkeypatch) as read:
            assert len(ids(saver.list(config_of("t"), filter={"even": True}, limit=5))) == 5
        assert read.states == 5, "states of what does not fit"
        with counting(engine, monkeypatch) as read:
            assert len(ids(saver.list(config_of("t")))) == COUNT
        assert read.states == COUNT
        assert read.trips <= 20


def test_one_checkpoint_is_listed_without_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        fill(saver, "t", COUNT)
        fill(saver, "t", 3, "inner:1")
        for config, found in (
            (named("t", "0007"), 1),
            ({"configurable": {"thread_id": "t", "checkpoint_id": "0002"}}, 2),
        ):
            with counting(engine, monkeypatch) as read:
                assert len(ids(saver.list(config))) == found
            assert read.states == found
            assert read.nodes <= 3 * found + 2
        assert ids(saver.list(named("t", "0007"), before=named("t", "0007"))) == []
        assert ids(saver.list(named("t", "0007"), before=named("t", "0008"))) == ["0007"]
        assert ids(saver.list(named("t", "0007"), filter={"even": True})) == []
        with counting(engine, monkeypatch) as read:
            assert saver.get_tuple(config_of("t")) is not None
        assert (read.trips, read.states) == (1, 1)
        with counting(engine, monkeypatch) as read:
            assert saver.get_tuple(config_of("nothing here")) is None
        assert (read.trips, read.nodes) == (1, 0)


def test_all_threads_are_listed_without_reading_all_states(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for thread in range(8):
            fill(saver, f"t{thread}", 20)
        with counting(engine, monkeypatch) as read:
            assert ids(saver.list(None, limit=3)) == ["0019"] * 3
        assert read.states == 3
        assert read.nodes <= 8 * (1 + 3 + 1) + 6
        with counting(engine, monkeypatch) as read:
            listing = saver.list(None)
            next(listing)
        assert read.states <= 4
        assert len(ids(listing)) == 8 * 20 - 1
        assert ids(saver.list(None)) == sorted(ids(saver.list(None)), reverse=True)


def test_entries_of_entries_of_metadata_are_filters(file_place: Place) -> None:
    about = {"user": {"name": "x", "tags": {"a": 1}}, "user.name": "y", "a-b": "c"}
    with file_place.engine() as engine:
        saver = LivingAISaver(engine)
        put(saver, "t", "1", {}, metadata=about)
        for key, value in (("a-b", "c"), ("user.tags.a", 1), ("user.name", "y"),
                           ("user.tags", {"a": 1}), ("source.x", None)):  # fmt: skip
            assert ids(saver.list(None, filter={key: value})) == ["1"], key
        for key, value in (("user.name", "x"), ("user.tags.b", 1), ("step.x", 0)):
            assert ids(saver.list(None, filter={key: value})) == [], key


def named_thread(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
