"""Items that expire. The clock of the store is moved; nothing here waits for time to pass, but for
a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.store.base import TTLConfig

from livingai import CheckpointEngine
from livingai.adapters.langgraph import LivingAIStore, item_log, store
from livingai.adapters.steps import Steps, take_sync
from livingai.errors import ConfigurationError
from tests.support.place import Place
from tests.support.waiting import until


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock of items forward, by minutes."""
    moved = 0.0
    clock: Any = SimpleNamespace(time=lambda: time.time() + moved)
    for module in (store, item_log):
        monkeypatch.setattr(module, "time", clock)

    def move(minutes: float) -> None:
        nonlocal moved
        moved += minutes * 60

    return move


def nodes_of(engine: CheckpointEngine) -> int:
    return sum(info.nodes for info in engine.executions_sync(prefix="langgraph-store:"))


def test_what_has_expired_is_gone_before_it_is_swept(
    place: Place, later: Callable[[float], None]
) -> None:
    with place.engine() as engine:
        items = LivingAIStore(engine, ttl={"default_ttl": 5, "refresh_on_read": False})
        assert items.supports_ttl
        items.put(("a",), "default", {"n": 1})
        items.put(("a",), "longer", {"n": 2}, ttl=20)
        items.put(("a",), "for ever", {"n": 3}, ttl=None)
        items.put(("b",), "default", {"n": 4})
        later(4.9)
        assert len(items.search(())) == 4
        later(0.2)
        assert items.get(("a",), "default") is None
        assert [item.key for item in items.search(())] == ["for ever", "longer"]
        assert items.list_namespaces() == [("a",)]
        items.flush()
        before = nodes_of(engine)
        items.sweep_ttl()
        assert nodes_of(engine) <= before - 1  # the last one that was written is kept
        later(20)
        assert [item.key for item in items.search(())] == ["for ever"]


def test_reading_gives_an_item_its_full_time_again(
    place: Place, later: Callable[[float], None]
) -> None:
    with place.engine() as engine:
        items = LivingAIStore(engine, ttl={"default_ttl": 10})
        for key in ("got", "found", "left", "looked at"):
            items.put(("a",), key, {"key": key})
        for _ in range(3):
            later(7)
            assert items.get(("a",), "got") is not None
            assert len(items.search(("a",), filter={"key": "found"})) == 1
            items.get(("a",), "looked at", refresh_ttl=False)
        assert sorted(item.key for item in items.search(())) == ["found", "got"]
        got = items.get(("a",), "got")
        assert got is not None
        assert got.created_at == got.updated_at, "reading is no change"
        items.sweep_ttl()
        later(9)
        assert sorted(item.key for item in items.search(())) == ["found", "got"]
        later(11)
        assert items.search(()) == []


@pytest.mark.parametrize("sweeps", [True, False])
def test_what_is_read_while_it_is_swept_stays(
    place: Place, later: Callable[[float], None], *, sweeps: bool
) -> None:
    """A sweep reads the item; a reader gives it its full time; only then the time comes at which
    it would have expired."""
    with place.engine() as engine:
        items = LivingAIStore(engine, ttl={"default_ttl": 10})
        items.put(("a",), "k", {"n": 1})
        items.put(("a",), "last", {}, ttl=None)  # the newest one is never dropped
        log = items._items
        group = log.names.group(("a",), "k")
        later(9)
        steps = log.sweep() if sweeps else log.clean([group])
        reading = next(steps)
        found = getattr(reading.target, f"{reading.method}_sync")(*reading.arguments)
        assert items.get(("a",), "k") is not None
        later(2)
        take_sync(resumed(steps, found))
        assert items.get(("a",), "k") is not None


def resumed(steps: Steps[Any], value: Any) -> Steps[None]:
    """The rest of a generator whose first step was taken."""
    with suppress(StopIteration):
        while True:
            value = yield steps.send(value)


def test_a_put_after_the_end_is_a_new_item(
    file_place: Place, later: Callable[[float], None]
) -> None:
    with file_place.engine() as engine:
        items = LivingAIStore(engine)
        items.put(("a",), "k", {"n": 1}, ttl=1e-9)
        until(lambda: items.get(("a",), "k") is None, what="its end")
        items.put(("a",), "k", {"n": 2}, ttl=60)
        item = items.get(("a",), "k")
        assert item is not None
        assert item.created_at == item.updated_at
        items.put(("a",), "k", {"n": 3})  # without a limit from now on
        later(100)
        item = items.get(("a",), "k")
        assert item is not None
        assert item.value == {"n": 3}
        assert item.updated_at - item.created_at < timedelta(minutes=1)


def test_what_has_expired_is_shown_if_that_was_asked_for(
    file_place: Place, later: Callable[[float], None]
) -> None:
    with file_place.engine() as engine:
        items = LivingAIStore(engine, ttl={"default_ttl": 1, "omit_expired": False})
        items.put(("a",), "k", {"n": 1})
        items.put(("a",), "other", {"n": 1}, ttl=None)
        later(2)
        assert len(items.search((), refresh_ttl=False)) == 2
        assert items.sweep_ttl() == 1
        assert [item.key for item in items.search(())] == ["other"]


def test_a_thread_sweeps_until_it_is_stopped(file_place: Place) -> None:
    with file_place.engine() as engine:
        items = LivingAIStore(engine, ttl={"sweep_interval_minutes": 1})
        for number in range(20):
            items.put(("a",), f"{number}", {}, ttl=1e-9)
        items.put(("a",), "last", {})
        items.start_ttl_sweeper(0.001)
        items.start_ttl_sweeper(0.001)
        until(lambda: nodes_of(engine) == 1, what="the sweep")
        assert items.stop_ttl_sweeper(30)
        assert items.stop_ttl_sweeper()
        items.start_ttl_sweeper()  # ends with the engine


@pytest.mark.parametrize(
    "ttl", [{"default_ttl": "5"}, {"default_ttl": -1}, {"minutes": 5}, 5, {"default_ttl": True}]
)
def test_settings_that_cannot_work(file_place: Place, ttl: TTLConfig) -> None:
    with file_place.engine() as engine:
        with pytest.raises(ConfigurationError):
            LivingAIStore(engine, ttl=ttl)
        with pytest.raises(ConfigurationError):
            LivingAIStore(engine).put(("a",), "k", {}, ttl=0)
