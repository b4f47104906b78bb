"""A process is killed in the middle of a delete, a copy, a prune: another one sees the thread as it
was or as it was to be, and whoever does the same again finishes what the dead one left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pytest

pytest.importorskip("langgraph")

from livingai import CheckpointEngine
from livingai.adapters.langgraph import LivingAISaver
from tests.frameworks.langgraph import graphs
from tests.frameworks.langgraph.graphs import config_of, named, put
from tests.support.agents import AgentDied
from tests.support.framework_places import QUIET
from tests.support.place import Place
from tests.support.thread_kills import POINTS

#: Nodes that are removed in one request here, so that there are several.
CHUNK: Final = 4

Shown = list[tuple[str, Any, Any]]


def fill(saver: LivingAISaver, thread: str, names: str) -> None:
    """Checkpoints of two runs, each with a write."""
    for at, name in enumerate(names):
        run = "odd" if at % 2 else "even"
        put(saver, thread, name, {"at": name * 50}, metadata={"run_id": f"{thread}-{run}"})
        saver.put_writes(named(thread, name), [("wrote", name)], "task")


def shown(saver: LivingAISaver, thread: str) -> Shown:
    """What a thread shows, in full; its latest checkpoint is the first of its list."""
    found = [
        (each.checkpoint["id"], each.checkpoint["channel_values"], each.pending_writes)
        for each in saver.list(config_of(thread))
    ]
    latest = saver.get_tuple(config_of(thread))
    assert (latest and latest.checkpoint["id"]) == (found[0][0] if found else None)
    return found


def nodes(engine: CheckpointEngine, *threads: str) -> list[int]:
    """How many nodes are stored for each thread."""
    page = engine.executions_sync(prefix="langgraph:", limit=1000)
    stored = {info.execution_id: info.nodes for info in page}
    return [stored.get(f"langgraph:{thread}", 0) for thread in threads]


class Operation(NamedTuple):
    """What is done to the thread ``<name>``, which may have a source ``<name>-source``: in another
    process and in this one; and how what is left over is removed after it."""

    prepare: Callable[[LivingAISaver, str], None]
    there: Callable[..., Any]
    here: Callable[[LivingAISaver, str], None]
    after: Callable[[LivingAISaver, str], None] = lambda saver, name: None


def copied(saver: LivingAISaver, name: str) -> None:
    fill(saver, f"{name}-source", "abcdef")
    saver.copy_thread(f"{name}-source", name)
    saver.delete_thread(f"{name}-source")  # it is kept for its copy
    fill(saver, name, "gh")


def two(saver: LivingAISaver, name: str) -> None:
    fill(saver, f"{name}-source", "abcdef")
    fill(saver, name, "gh")


def one(saver: LivingAISaver, name: str) -> None:
    fill(saver, name, "abcdefghij")


def without_copy(saver: LivingAISaver, name: str) -> None:
    saver.delete_thread(name)
    saver.prune([f"{name}-source"])


OPERATIONS: Final = {
    "delete": Operation(
        copied, graphs.delete_thread, lambda saver, name: saver.delete_thread(name)
    ),
    "copy": Operation(
        two,
        graphs.copy_thread,
        lambda saver, name: saver.copy_thread(f"{name}-source", name),
        without_copy,
    ),
    "prune": Operation(
        one,
        graphs.prune_thread,
        lambda saver, name: saver.prune([name]),
        lambda saver, name: saver.prune([name]),
    ),
    "runs": Operation(
        one,
        graphs.delete_run,
        lambda saver, name: saver.delete_for_runs([f"{name}-odd"]),
        lambda saver, name: saver.prune([name]),
    ),
}


@pytest.mark.parametrize("doing", OPERATIONS)
def test_a_killed_operation_is_done_or_not(place: Place, doing: str) -> None:
    operation = OPERATIONS[doing]
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        names = [f"{point}-{nth}" for point, nth in POINTS[doing]]
        for name in ("control", *names):
            operation.prepare(saver, name)
        before = shown(saver, "control")
        operation.here(saver, "control")
        after = shown(saver, "control")
        assert before != after
        operation.after(saver, "control")
        stored = nodes(engine, "control", "control-source")
        seen = []
        for (point, nth), name in zip(POINTS[doing], names, strict=True):
            victim = place.agent(env={**QUIET, "LIVINGAI_FAILPOINTS": f"{point}=kill*{nth}"})
            with pytest.raises(AgentDied):
                victim.call(operation.there, name, CHUNK)
            left = shown(saver, name)
            seen.append(left)
            assert left in (before, after), f"killed at {name}"
            operation.here(saver, name)
            assert shown(saver, name) == after, f"killed at {name}, done again"
            operation.after(saver, name)
            now = nodes(engine, name, f"{name}-source")
            assert now <= stored, f"killed at {name}: no space was given back"
            assert shown(saver, f"{name}-source") == shown(saver, "control-source")
        assert after in seen, "nobody was killed behind the mark"


def test_a_prune_finishes_a_killed_delete(place: Place) -> None:
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        copied(saver, "t")
        victim = place.agent(env={**QUIET, "LIVINGAI_FAILPOINTS": "thread.delete_marked=kill*1"})
        with pytest.raises(AgentDied):
            victim.call(graphs.delete_thread, "t", CHUNK)
        assert shown(saver, "t") == []
        full = nodes(engine, "t", "t-source")
        saver.prune(["t"])
        left = nodes(engine, "t", "t-source")
        assert all(now < then for now, then in zip(left, full, strict=True)), (full, left)
        fill(saver, "t", "z")
        assert [each[0] for each in shown(saver, "t")] == ["z"]
