"""Threads as a whole: copied, deleted, pruned, while their copies live."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.checkpoint.serde.types import TASKS

from livingai import CheckpointEngine, Retention
from livingai.adapters.langgraph import LivingAISaver
from livingai.adapters.langgraph.thread import MAX_LAYERS
from livingai.errors import ConfigurationError, CorruptRowError
from tests.frameworks.langgraph.graphs import config_of, named, put
from tests.support.place import Place


def ids(saver: LivingAISaver, thread_id: str, **options: Any) -> list[str]:
    return [found.checkpoint["id"] for found in saver.list(config_of(thread_id), **options)]


def nodes_of(engine: CheckpointEngine, thread_id: str) -> int:
    page = engine.executions_sync(prefix=f"langgraph:{thread_id}")
    return sum(info.nodes for info in page if info.execution_id == f"langgraph:{thread_id}")


def test_a_copy_and_its_source_go_different_ways(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for number in range(3):
            put(
                saver,
                "old",
                f"{number}",
                {"at": number},
                parent=f"{number - 1}" if number else None,
            )
        saver.put_writes(named("old", "2"), [("at", "before")], "task")
        saver.copy_thread("old", "new")
        put(saver, "old", "3-old", {"at": "old"}, parent="2")
        saver.put_writes(named("old", "2"), [("at", "after")], "task 2")
        put(saver, "old", "1", {"at": "changed"})
        put(saver, "new", "3-new", {"at": "new"}, parent="2")
        saver.put_writes(named("new", "2"), [("at", "here")], "task 3")

        assert ids(saver, "old") == ["3-old", "2", "1", "0"]
        assert ids(saver, "new") == ["3-new", "2", "1", "0"]
        assert ids(saver, "new", before=named("new", "2"), limit=1) == ["1"]
        copied = saver.get_tuple(named("new", "2"))
        assert copied is not None
        assert copied.config["configurable"]["thread_id"] == "new"
        assert copied.parent_config is not None
        assert copied.parent_config["configurable"]["thread_id"] == "new"
        assert copied.pending_writes == [("task", "at", "before"), ("task 3", "at", "here")]
        first = saver.get_tuple(named("new", "1"))
        assert first is not None
        assert first.checkpoint["channel_values"] == {"at": 1}
        again = saver.get_tuple(named("old", "1"))
        assert again is not None
        assert again.checkpoint["channel_values"] == {"at": "changed"}


def test_a_copy_of_a_copy_outlives_both(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        put(saver, "a", "1", {"at": "a"})
        saver.copy_thread("a", "b")
        put(saver, "b", "2", {"at": "b"}, parent="1")
        saver.copy_thread("b", "c")
        saver.delete_thread("b")
        saver.delete_thread("a")
        assert ids(saver, "a") == ids(saver, "b") == []
        assert saver.get_tuple(config_of("a")) is None
        assert ids(saver, "c") == ["2", "1"]
        # Used again, the deleted ones begin anew.
        put(saver, "b", "9", {"at": "again"})
        assert ids(saver, "b") == ["9"]
        assert ids(saver, "c") == ["2", "1"]
        before = nodes_of(engine, "a")
        saver.delete_thread("c")
        assert ids(saver, "c") == []
        assert nodes_of(engine, "a") < before, "kept for copies that are gone"
        assert ids(saver, "b") == ["9"]


def test_threads_that_are_copies_of_each_other_are_deleted(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        put(saver, "a", "1", {"at": "a"})
        saver.copy_thread("a", "b")
        saver.copy_thread("b", "a")
        assert ids(saver, "a") == ids(saver, "b") == ["1"]
        saver.delete_thread("b")
        saver.delete_thread("a")
        assert ids(saver, "a") == ids(saver, "b") == []


def test_a_chain_of_copies_ends_with_an_error(file_place: Place) -> None:
    with file_place.engine() as engine:
        saver = LivingAISaver(engine)
        put(saver, "0", "1", {"at": "first"})
        last = MAX_LAYERS - 1
        for number in range(last):
            saver.copy_thread(f"{number}", f"{number + 1}")
        with pytest.raises(ConfigurationError, match="once more"):
            saver.copy_thread(f"{last}", "one too many")
        assert ids(saver, f"{last}") == ["1"]


def test_what_retention_dropped_is_not_shown(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        counters = {"counters_since_delta_snapshot": {"log": [1, 1]}}
        for number in range(20):
            values: dict[str, Any] = {"at": bytes(random.Random(number).randbytes(5000))}
            values |= {} if number else {"log": [0]}
            parent = f"{number - 1:02}" if number else None
            metadata = counters if number else {}
            put(saver, "t", f"{number:02}", values, parent=parent, metadata=metadata)
        engine.prune_sync(Retention(keep_last=1))
        left = ids(saver, "t")
        assert left[0] == "19"
        assert len(left) < 20
        assert saver.get_tuple(named("t", "00")) is None
        with pytest.raises(CorruptRowError, match="retention"):
            saver.get_delta_channel_history(config=config_of("t"), channels=["log"])


def test_pruning_keeps_the_latest_and_what_copies_have(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for number in range(30):
            put(
                saver,
                "t",
                f"{number:02}",
                {"at": number},
                parent=f"{number - 1:02}" if number else None,
            )
            saver.put_writes(named("t", f"{number:02}"), [("at", number)], "task")
        saver.copy_thread("t", "copy")
        saver.prune(["t"])
        assert ids(saver, "t") == ["29"]
        assert len(ids(saver, "copy")) == 30
        kept = saver.get_tuple(config_of("t"))
        assert kept is not None
        assert kept.pending_writes == [("task", "at", 29)]
        assert saver.get_tuple(named("t", "28")) is None
        before = nodes_of(engine, "t")
        saver.delete_thread("copy")
        saver.prune(["t"])
        assert ids(saver, "t") == ["29"]
        assert nodes_of(engine, "t") < before, "no space was given back"
        put(saver, "t", "30", {"at": 30}, parent="29")
        assert ids(saver, "t") == ["30", "29"]


def test_pruning_leaves_writes_whose_checkpoint_comes_later(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        put(saver, "t", "1", {})
        saver.put_writes(named("t", "2"), [("early", 1)], "task")
        saver.prune(["t"])
        put(saver, "t", "2", {}, parent="1")
        latest = saver.get_tuple(config_of("t"))
        assert latest is not None
        assert latest.pending_writes == [("task", "early", 1)]


def test_pruning_keeps_what_delta_channels_are_built_from(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for number in range(8):
            snapshot = number in (0, 4)
            metadata = {} if snapshot else {"counters_since_delta_snapshot": {"log": [1, 1]}}
            put(saver, "t", f"{number}", {"log": [number]} if snapshot else {},
                parent=f"{number - 1}" if number else None, metadata=metadata)  # fmt: skip
            saver.put_writes(named("t", f"{number}"), [("log", number)], "task")
        history = saver.get_delta_channel_history(config=config_of("t"), channels=["log", "other"])
        saver.prune(["t"])
        assert ids(saver, "t") == ["7", "6", "5", "4"]
        after = saver.get_delta_channel_history(config=config_of("t"), channels=["log", "other"])
        assert after["log"] == history["log"]
        assert after["log"] == {
            "seed": [4], "writes": [("task", "log", 4), ("task", "log", 5), ("task", "log", 6)],
        }  # fmt: skip
        assert after["other"] == {"writes": []}


def test_runs_are_removed_from_all_threads(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for thread in ("a", "b"):
            for number, run in enumerate(("x", "y", "x")):
                put(saver, thread, f"{number}", {}, metadata={"run_id": run})
        saver.copy_thread("a", "copy")
        saver.delete_for_runs(["x"])
        assert [ids(saver, thread) for thread in ("a", "b", "copy")] == [["1"]] * 3


def test_long_and_odd_ids(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        threads = [
            "t" * 3000,
            "t" * 3001,
            "a/b",
            "a%2Fb",
            "nul \0 byte",
            "ünï 漢字 \U0001f600",
            " ",
        ]
        namespaces = ["", "n" * 500, "a:1|b:2", "\0", "!"]
        for thread in threads:
            for namespace in namespaces:
                put(
                    saver,
                    thread,
                    f"1 {namespace[:9]}",
                    {"x": thread[-3:] + "\0"},
                    namespace=namespace,
                )
        for thread in threads:
            found = list(saver.list(config_of(thread)))
            assert sorted(each.config["configurable"]["checkpoint_ns"] for each in found) == sorted(
                namespaces
            )
            assert {each.config["configurable"]["thread_id"] for each in found} == {thread}
            assert all(
                each.checkpoint["channel_values"]["x"] == thread[-3:] + "\0" for each in found
            )
        everything = [each.config["configurable"]["thread_id"] for each in saver.list(None)]
        assert sorted(everything) == sorted(threads * len(namespaces))


def test_ids_sort_as_text(place: Place) -> None:
    odd = ["a", "a-x", "a/b", "ab", "a b", "a!", "a\0", "b", "a\x7f", "aé", "a漢", "a\U0001f600"]
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for each in odd:
            put(saver, "t", each, {"id": each})
        assert ids(saver, "t") == sorted(odd, reverse=True)
        latest = saver.get_tuple(config_of("t"))
        assert latest is not None
        assert latest.checkpoint["id"] == max(odd)
        for each in odd:
            found = saver.get_tuple(named("t", each))
            assert found is not None
            assert found.checkpoint["channel_values"] == {"id": each}


def test_a_kept_checkpoint_has_no_parent_where_that_went(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for number in range(3):
            put(saver, "t", f"{number}", {}, parent=f"{number - 1}" if number else None)
        saver.copy_thread("t", "copy")
        saver.prune(["t"])
        for found in (saver.get_tuple(config_of("t")), *saver.list(config_of("t"))):
            assert found is not None
            assert (found.checkpoint["id"], found.parent_config) == ("2", None)
        copied = saver.get_tuple(config_of("copy"))
        assert copied is not None
        assert copied.parent_config == named("copy", "1")


def test_checkpoints_of_an_earlier_langgraph_take_what_was_sent(place: Place) -> None:
    """Before version 4 a checkpoint did not hold the tasks that its parent's writes sent."""
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for number, version in ((0, 3), (1, 3), (2, 4)):
            parent = f"{number - 1}" if number else None
            put(saver, "t", f"{number}", {}, parent=parent, version=version)
            saver.put_writes(named("t", f"{number}"), [(TASKS, f"b{number}")], "task 2")
            sent = [(TASKS, f"a{number}"), (TASKS, f"A{number}")]
            saver.put_writes(named("t", f"{number}"), sent, "task 1")

        def values() -> list[Any]:
            listed = list(saver.list(config_of("t")))
            got = [saver.get_tuple(each.config) for each in listed]
            shown = [each.checkpoint["channel_values"] for each in listed]
            assert [each and each.checkpoint["channel_values"] for each in got] == shown
            assert all(
                TASKS in each.checkpoint["channel_versions"]
                for each in listed
                if each.checkpoint["channel_values"]
            )
            return shown

        assert values() == [{}, {TASKS: ["a0", "A0", "b0"]}, {}]
        saver.copy_thread("t", "copy")
        saver.prune(["t"])
        assert values() == [{}]
        put(saver, "u", "0", {}, version=3)
        saver.put_writes(named("u", "0"), [(TASKS, "sent")], "task")
        put(saver, "u", "1", {}, parent="0", version=3)
        saver.prune(["u"])
        assert ids(saver, "u") == ["1", "0"], "its parent holds what it takes"
        latest = saver.get_tuple(config_of("u"))
        assert latest is not None
        assert latest.checkpoint["channel_values"] == {TASKS: ["sent"]}
