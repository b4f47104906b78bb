"""LangGraph's long-term memory: what its own stores do, this one does, too."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from livingai import CheckpointEngine, Durability
from livingai.adapters.langgraph import LivingAIStore, item_cleaner, item_log
from livingai.errors import ConfigurationError, StateEncodingError
from tests.frameworks.langgraph.graphs import Steps
from tests.support.place import Place


def nodes_of(engine: CheckpointEngine) -> int:
    """How many entries there are."""
    return sum(info.nodes for info in engine.executions_sync(prefix="langgraph-store:"))


def keys(items: list[Any]) -> list[str]:
    return [item.key for item in items]


def test_an_item_is_put_read_changed_and_deleted(place: Place) -> None:
    with place.engine() as engine:
        store = LivingAIStore(engine)
        before = datetime.now(UTC)
        store.put(("users", "1"), "name", {"first": "Ada", "list": [1, {"a": None}]})
        item = store.get(("users", "1"), "name")
        assert isinstance(item, Item)
        assert item.value == {"first": "Ada", "list": [1, {"a": None}]}
        assert (item.namespace, item.key) == (("users", "1"), "name")
        assert before - timedelta(seconds=1) < item.created_at == item.updated_at
        store.put(("users", "1"), "name", {"first": "Grace"})
        changed = store.get(("users", "1"), "name")
        assert changed is not None
        assert changed.value == {"first": "Grace"}
        assert changed.created_at == item.created_at
        assert changed.updated_at > item.updated_at
        assert store.get(("users",), "name") is None
        assert store.get(("users", "1"), "other") is None
        store.delete(("users", "1"), "name")
        store.delete(("users", "1"), "never there")
        assert store.get(("users", "1"), "name") is None
        assert store.search(()) == []
        assert store.list_namespaces() == []
        store.put(("users", "1"), "name", {"again": True})
        again = store.get(("users", "1"), "name")
        assert again is not None
        assert again.created_at == again.updated_at > changed.updated_at


async def test_the_asynchronous_half(place: Place) -> None:
    async with place.engine() as engine:
        store = LivingAIStore(engine, durability=Durability.STORE)
        await asyncio.gather(*(store.aput(("a", f"{n % 3}"), f"{n}", {"n": n}) for n in range(9)))
        item = await store.aget(("a", "1"), "4")
        assert item is not None
        assert item.value == {"n": 4}
        assert sorted(keys(await store.asearch(("a", "2")))) == ["2", "5", "8"]
        assert await store.alist_namespaces() == [("a", "0"), ("a", "1"), ("a", "2")]
        await store.adelete(("a", "1"), "4")
        assert await store.aget(("a", "1"), "4") is None
        await store.aflush()
        assert await store.asweep_ttl() == 0


def test_a_batch_reads_first_and_the_last_put_counts(place: Place) -> None:
    with place.engine() as engine:
        store = LivingAIStore(engine)
        store.put(("test", "foo"), "one", {"data": "old"})
        results = store.batch([
            PutOp(("test", "foo"), "one", {"data": "newer"}),
            GetOp(("test", "foo"), "one"),
            SearchOp(("test",), {"data": "old"}),
            PutOp(("test", "foo"), "one", {"data": "newest"}),
            PutOp(("test", "foo"), "two", {"data": "gone"}),
            ListNamespacesOp(),
            PutOp(("test", "foo"), "two", None),
            GetOp(("test",), "none"),
            GetOp(("test", "foo"), "one"),
        ])  # fmt: skip
        assert results[1] == results[8]
        assert isinstance(results[1], Item)
        assert results[1].value == {"data": "old"}
        assert isinstance(results[2], list)
        assert keys(results[2]) == ["one"]
        assert results[5] == [("test", "foo")]
        assert [results[at] for at in (0, 3, 4, 6, 7)] == [None] * 5
        found = store.search(("test",))
        assert [(item.key, item.value) for item in found] == [("one", {"data": "newest"})]


def test_nothing_is_put_of_a_batch_that_makes_no_sense(place: Place) -> None:
    with place.engine() as engine:
        store = LivingAIStore(engine)
        good = PutOp(("a",), "good", {"x": 1})
        wrong: list[tuple[Any, type[Exception]]] = [
            (PutOp(("a",), "bad", {"x": object()}), StateEncodingError),
            (PutOp(("a",), "bad", {"x": 1}, ["x"]), ConfigurationError),
            (PutOp(("a", ""), "bad", {"x": 1}), InvalidNamespaceError),
            (PutOp(("a.b",), "bad", {"x": 1}), InvalidNamespaceError),
            (SearchOp(("a",), query="what was it?"), ConfigurationError),
            (SearchOp(("a",), {"x": {"$in": [1]}}), ConfigurationError),
            (SearchOp(("a",), limit=-1), ConfigurationError),
            (ListNamespacesOp((MatchCondition("infix", ("a",)),)), ConfigurationError),
            ("no operation", ConfigurationError),
        ]
        for op, error in wrong:
            with pytest.raises(error):
                store.batch([good, op])
        with pytest.raises(ConfigurationError, match="PostgresStore"):
            store.search(("a",), query="what was it?")
        with pytest.raises(InvalidNamespaceError):
            store.put(("langgraph", "x"), "k", {})
        assert store.search(()) == []
        assert nodes_of(engine) == 0


def test_a_search_gives_the_newest_first_a_page_at_a_time(place: Place) -> None:
    with place.engine() as engine:
        store = LivingAIStore(engine)
        for number in range(25):
            store.put(("docs", f"{number % 4}"), f"{number}", {"n": number, "odd": number % 2})
        store.put(("docs", "1"), "5", {"n": 5, "odd": "changed"})
        newest = ["5", *(f"{n}" for n in range(24, -1, -1) if n != 5)]
        assert keys(store.search(("docs",), limit=100)) == newest
        assert keys(store.search((), limit=100)) == newest
        assert keys(store.search(("docs",))) == newest[:10]
        assert keys(store.search(("docs",), limit=4, offset=7)) == newest[7:11]
        assert keys(store.search(("docs",), limit=4, offset=30)) == []
        assert keys(store.search(("docs",), limit=0)) == []
        assert keys(store.search(("docs",), filter={"odd": 1}, limit=3, offset=1)) == [
            "21", "19", "17",
        ]  # fmt: skip
        assert keys(store.search(("docs", "1"), limit=100)) == [
            "5", "21", "17", "13", "9", "1",
        ]  # fmt: skip
        assert keys(store.search(("doc",))) == []


FILTERED: list[tuple[dict[str, Any], str]] = [
    ({"n": {"$gt": 2}}, "c"),
    ({"n": {"$gte": 2, "$lt": 3.5}}, "b"),
    ({"n": {"$lte": 1}}, "a"),
    ({"n": {"$eq": 2}}, "b"),
    ({"n": {"$ne": 2}}, "acde"),
    ({"n": {"$lt": math.inf}}, "abc"),
    ({"n": {"$gt": -math.inf}}, "abc"),
    ({"n": {"$eq": math.nan}}, ""),
    ({"n": {"$gt": 10**400}}, ""),
    ({"n": {"$gt": "1"}}, "d"),
    ({"n": True}, "e"),
    ({"n": 1}, "a"),
    ({"n": {"$ne": None}}, "abcde"),
    ({"n": None}, "f"),
    ({"n": {"$eq": None}}, "f"),
    ({"tags": ["x", "y"]}, "b"),
    ({"tags": {"$eq": ["y", "x"]}}, ""),
    ({"about": {"author": "Ada"}}, "c"),
    ({"about": {"$eq": {"author": "Ada"}}}, ""),
    ({"about": {"year": {"$gt": 1800}}}, "c"),
    ({"n": {"$gt": 2}, "about": {"author": "Ada"}}, "c"),
    ({"'; DROP TABLE nodes; --": 1}, ""),
]


def test_filters(file_place: Place) -> None:
    with file_place.engine() as engine:
        store = LivingAIStore(engine)
        values: dict[str, dict[str, Any]] = {
            "a": {"n": 1},
            "b": {"n": 2, "tags": ["x", "y"]},
            "c": {"n": 4, "about": {"author": "Ada", "year": 1842}},
            "d": {"n": "2", "about": "Ada"},
            "e": {"n": True},
            "f": {"tags": "x"},
        }
        for key, value in values.items():
            store.put(("f",), key, value)
        for wanted, fitting in FILTERED:
            assert "".join(sorted(keys(store.search(("f",), filter=wanted)))) == fitting, wanted


def test_namespaces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_log, "_PAGE", 3)
    namespaces = [
        ("a", "test", "documents", "public"),
        ("a", "test", "documents", "private"),
        ("a", "test", "images", "public"),
        ("a", "prod", "documents", "some", "nesting", "public"),
        ("a", "prod", "documents", "public"),
        ("a", "prod"),
        ("a", "pro"),
        ("b",),
    ]
    with place.engine() as engine:
        store = LivingAIStore(engine)
        for namespace in namespaces:
            store.put(namespace, "x", {})
            store.put(namespace, "y", {})
        store.put(("a", "empty"), "x", {})
        store.delete(("a", "empty"), "x")
        assert store.list_namespaces() == sorted(namespaces)
        assert store.list_namespaces(limit=3, offset=2) == sorted(namespaces)[2:5]
        assert store.list_namespaces(prefix=("a", "test")) == sorted(namespaces)[-4:-1]
        assert store.list_namespaces(suffix=("public",), max_depth=2) == [
            ("a", "prod"), ("a", "test"),
        ]  # fmt: skip
        assert store.list_namespaces(prefix=("a", "*", "documents")) == sorted(
            each for each in namespaces if each[2:3] == ("documents",)
        )
        assert store.list_namespaces(suffix=("some", "*", "public")) == [namespaces[3]]
        assert store.list_namespaces(prefix=("a", "prod"), suffix=("public",)) == [
            namespaces[4], namespaces[3],
        ]  # fmt: skip
        assert store.list_namespaces(prefix=("*",), max_depth=1) == [("a",), ("b",)]


def test_it_does_what_the_store_in_memory_does(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same random operations on both; all that does not depend on the time is equal. Pages are
    small, so that items lie across their ends."""
    monkeypatch.setattr(item_log, "_PAGE", 3)
    monkeypatch.setattr(item_log, "_FEW", 2)
    seed = int(os.environ.get("LIVINGAI_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed {seed} (repeat with LIVINGAI_SEED={seed})")
    chance = random.Random(seed)
    labels = ["a", "b", "ab", "A", "ä", "漢", "a/b", "a:b", "a%b", "~", " ", "x" * 300, "n\n"]
    theirs = InMemoryStore()
    with place.engine() as engine:
        ours = LivingAIStore(engine)
        for step in range(150):
            namespace = tuple(chance.choices(labels, k=chance.randint(1, 4)))
            if namespace[0] == "langgraph":
                continue
            key = chance.choice(["k", "k/1", ":", "", "key " * 60, "é", "%%"])
            match chance.randrange(4):
                case 0 | 1:
                    value = {"step": step, "text": chance.choice(labels)}
                    for store in (ours, theirs):
                        store.put(namespace, key, value)
                case 2:
                    known = [(each.namespace, each.key) for each in theirs.search((), limit=999)]
                    namespace, key = chance.choice(known or [(namespace, key)])
                    for store in (ours, theirs):
                        store.delete(namespace, key)
                case _:
                    prefix = namespace[: chance.randrange(4)]
                    wanted = {"text": chance.choice(labels)} if chance.random() < 0.3 else None
                    left, right = (
                        {
                            (each.namespace, each.key, each.value["step"])
                            for each in store.search(prefix, filter=wanted, limit=999)
                        }
                        for store in (ours, theirs)
                    )
                    assert left == right, (seed, step, prefix, wanted)
            if step % 10 == 0:
                everything = theirs.search((), limit=999)
                ops = [GetOp(each.namespace, each.key) for each in everything]
                values = [each.value for each in ours.batch(ops) if isinstance(each, Item)]
                assert values == [each.value for each in everything], (seed, step)
                # An empty namespace stays in the list of the store in memory.
                there = {each.namespace for each in everything}
                assert ours.list_namespaces(limit=999) == sorted(there), (seed, step)


def test_long_paths(place: Place) -> None:
    """An id does not say all of them; every prefix finds what is below it, and nothing else."""
    labels = [f"{number}{'x' * 90}" for number in range(6)]
    with place.engine() as engine:
        store = LivingAIStore(engine)
        for depth in range(1, 7):
            store.put(tuple(labels[:depth]), "key" * 200, {"depth": depth})
        store.put((*labels[:5], "other"), "key" * 200, {"depth": 0})
        for depth in range(7):
            found = store.search(tuple(labels[:depth]), limit=99)
            expected = [*range(6, max(depth, 1) - 1, -1)]
            assert [item.value["depth"] for item in found if item.value["depth"]] == expected
            assert len(found) == len(expected) + (depth < 6)
        assert found[0].namespace == tuple(labels)
        assert found[0].key == "key" * 200
        assert store.list_namespaces(prefix=labels[:5]) == [
            tuple(labels[:5]), tuple(labels), (*labels[:5], "other"),
        ]  # fmt: skip
        store.delete(tuple(labels), "key" * 200)
        assert store.search(tuple(labels)) == []


def test_stores_of_different_names_are_apart(place: Place) -> None:
    with place.engine() as engine:
        one, two = LivingAIStore(engine), LivingAIStore(engine, "other")
        one.put(("a",), "k", {"in": "one"})
        two.put(("a",), "k", {"in": "two"})
        assert [each.search(())[0].value for each in (one, two)] == [{"in": "one"}, {"in": "two"}]
        two.delete(("a",), "k")
        assert len(one.search(())) == 1
        for name in ("", "x" * 100, "\ud800", 7):
            with pytest.raises(ConfigurationError):
                LivingAIStore(engine, name)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        LivingAIStore("sqlite:///x.db")  # type: ignore[arg-type]


def test_overtaken_values_give_their_space_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_cleaner, "_LINGER_S", 600)  # only the sweep cleans
    with place.engine() as engine:
        store = LivingAIStore(engine)
        for number, key in itertools.product(range(40), "abc"):
            store.put(("n",), key, {"number": number, "filler": "x" * 2000})
        store.put(("n",), "gone", {"x": 1})
        store.delete(("n",), "gone")
        assert nodes_of(engine) == 40 * 3 + 2
        first = {item.key: item.created_at for item in store.search(("n",))}
        for key in "abc":  # there are more entries than are asked for at first
            got = store.get(("n",), key)
            assert got is not None
            assert got.value["number"] == 39
            assert got.created_at == first[key]
        assert store.sweep_ttl() == 0
        # Of each a value and since when it is there, and that one was deleted.
        assert nodes_of(engine) <= 3 * 2 + 1
        left = engine.nodes_sync("langgraph-store:default")
        assert len([node for node in left if node.output is not None]) == 3
        after = store.search(("n",))
        assert {item.key: item.created_at for item in after} == first
        assert all(item.value["number"] == 39 for item in after)
        store.put(("n",), "a", {"number": 40})
        item = store.get(("n",), "a")
        assert item is not None
        assert item.created_at == first["a"] < item.updated_at


def test_what_is_overtaken_goes_without_being_asked(place: Place) -> None:
    with place.engine() as engine:
        store = LivingAIStore(engine)
        for number in range(30):
            store.put(("n",), "a", {"number": number})
    with place.engine() as engine:
        assert nodes_of(engine) <= 2
        assert LivingAIStore(engine).search(("n",))[0].value == {"number": 29}


def test_a_graph_remembers(place: Place) -> None:
    def remember(state: Steps, runtime: Runtime[None]) -> dict[str, list[str]]:
        assert runtime.store is not None
        known = runtime.store.get(("memories",), "last")
        runtime.store.put(("memories",), "last", {"text": state["done"][-1]})
        return {"done": [] if known is None else [known.value["text"]]}

    with place.engine() as engine:
        builder = StateGraph(Steps)
        builder.add_node("remember", remember)
        builder.add_edge(START, "remember")
        builder.add_edge("remember", END)
        graph = builder.compile(store=LivingAIStore(engine))
        start: Any = {"done": ["first"]}
        assert graph.invoke(start) == {"done": ["first"]}
        start = {"done": ["second"]}
        assert graph.invoke(start) == {"done": ["second", "first"]}
