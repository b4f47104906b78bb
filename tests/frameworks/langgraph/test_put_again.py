"""Checkpoints that are put again under their ids."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langgraph")

from livingai.adapters.langgraph import LivingAISaver, entries
from tests.frameworks.langgraph import graphs
from tests.frameworks.langgraph.graphs import config_of, named, put
from tests.support.framework_places import other_process
from tests.support.place import Place


def values(saver: LivingAISaver, thread: str, **options: Any) -> list[tuple[str, Any]]:
    return [
        (each.checkpoint["id"], each.checkpoint["channel_values"].get("value"))
        for each in saver.list(config_of(thread), **options)
    ]


def value(saver: LivingAISaver, config: Any) -> Any:
    found = saver.get_tuple(config)
    return found and found.checkpoint["channel_values"].get("value")


@pytest.fixture
def falling_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry of this process has a lower id than the one before: as if its clock were turned
    back between them."""
    numbers = iter(range(99_999, 0, -1))
    monkeypatch.setattr(entries, "new_id", lambda: f"{next(numbers):05}-falling")


@pytest.mark.usefixtures("falling_ids")
def test_the_last_put_counts_whatever_the_clocks_said(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for name in "abc":
            for turn in range(3):
                put(saver, "t", name, {"value": f"{name}{turn}"})
        assert value(saver, config_of("t")) == "c2"
        assert [value(saver, named("t", name)) for name in "abc"] == ["a2", "b2", "c2"]
        assert values(saver, "t") == [("c", "c2"), ("b", "b2"), ("a", "a2")]
        for limit in range(4):
            assert values(saver, "t", limit=limit) == values(saver, "t")[:limit]
        for before, left in (("c", 2), ("b", 1), ("a", 0), ("bb", 2), ("d", 3)):
            found = values(saver, "t", before=named("t", before))
            assert found == values(saver, "t")[3 - left :]
            assert values(saver, "t", before=named("t", before), limit=1) == found[:1]
        saver.copy_thread("t", "copy")
        put(saver, "t", "c", {"value": "c3"})
        put(saver, "copy", "b", {"value": "b-copy"})
        assert values(saver, "copy") == [("c", "c2"), ("b", "b-copy"), ("a", "a2")]
        assert values(saver, "t") == [("c", "c3"), ("b", "b2"), ("a", "a2")]
        assert value(saver, config_of("copy")) == "c2"
        assert value(saver, config_of("t")) == "c3"


@pytest.mark.usefixtures("falling_ids")
def test_many_entries_of_one_checkpoint_are_one_whatever_the_pages(place: Place) -> None:
    """More of them than a page has."""
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for turn in range(30):
            put(saver, "t", "b", {"value": turn})
        for name in "ac":
            put(saver, "t", name, {"value": name})
        for limit in (1, 2, 3, None):
            assert values(saver, "t", limit=limit) == [("c", "c"), ("b", 29), ("a", "a")][:limit]
        assert value(saver, named("t", "b")) == 29


def test_the_last_put_of_two_processes_counts(place: Place) -> None:
    """Each hears of the other's only through the store."""
    first, second = other_process(place), other_process(place)
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for turn in range(4):
            (first, second)[turn % 2].call(graphs.put_one, "t", "x", f"{turn}")
            assert value(saver, config_of("t")) == f"{turn}"
            assert values(saver, "t") == [("x", f"{turn}")]


def test_writes_of_a_hidden_checkpoint_stay_hidden(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        threads = ("pruned", "removed", "deleted", "copy of it", "with copy")
        for thread in threads[:3] + threads[4:]:
            put(saver, thread, "1", {"value": "old"}, metadata={"run_id": "r"})
            saver.put_writes(named(thread, "1"), [("w", "old")], "task")
            put(saver, thread, "2", {"value": "kept"})
        saver.copy_thread("with copy", "copy of it")
        saver.put_writes(named("copy of it", "1"), [("w", "older")], "own task")
        saver.prune(["pruned", "with copy", "copy of it"])
        saver.delete_for_runs(["r"])
        saver.delete_thread("deleted")
        for thread in threads:
            assert value(saver, named(thread, "1")) is None
            saver.put_writes(named(thread, "1"), [("w", "early")], "early task")
            put(saver, thread, "1", {"value": "new"})
            saver.put_writes(named(thread, "1"), [("w", "new")], "new task")
        for thread in threads:
            found = saver.get_tuple(named(thread, "1"))
            assert found is not None
            assert found.checkpoint["channel_values"] == {"value": "new"}
            written = [("early task", "w", "early"), ("new task", "w", "new")]
            assert found.pending_writes == written, thread
            listed = [each.pending_writes for each in saver.list(named(thread, "1"))]
            assert listed == [written], thread
        saver.prune(list(threads))  # and what was hidden before is removed
        for thread in threads:
            put(saver, thread, "1", {"value": "again"})
            found = saver.get_tuple(named(thread, "1"))
            assert found is not None
            if thread != "deleted":  # there it is the latest one, and stays
                assert found.pending_writes == [], thread
