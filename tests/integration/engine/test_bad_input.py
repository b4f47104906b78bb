"""What cannot be saved is refused at the call, by a typed error that says what to do, and spoils
nothing: what was saved before is there, and the next good save works.

Full disks are in ``test_full_disk``, places that cannot be used in ``test_bad_place``.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode
from livingai.errors import (
    InvalidNodeError,
    LivingAIError,
    StateEncodingError,
    StateTooLargeError,
)
from tests.support import peek
from tests.support.patience import patience
from tests.support.place import Place


@pytest.fixture(scope="module")
def shared_engine(shared_dir: Place) -> Iterator[CheckpointEngine]:
    """An engine that outlives all the bad input of this module."""
    with shared_dir.engine(max_state_bytes=100_000) as engine:
        yield engine
    saves = engine.sla().saves
    versions = peek.stored_versions(shared_dir.database, "run-1")
    assert versions == [(1, seq) for seq in range(1, saves + 1)], "nothing else was stored"


@pytest.fixture
def engine(shared_engine: CheckpointEngine) -> Iterator[CheckpointEngine]:
    """An engine with a good state before the test, and another one behind it."""
    good = ExecutionNode("run-1")
    assert shared_engine.save_sync(good, good.id.encode()).result(patience(60)).stored
    saves = shared_engine.sla().saves
    yield shared_engine
    assert shared_engine.latest_sync("run-1") == (good, good.id.encode())
    assert shared_engine.load_sync(good.id) == (good, good.id.encode())
    assert shared_engine.sla().saves == saves, "a refused save counts as one"
    assert shared_engine.save_sync(ExecutionNode("run-1"), b"better").result(patience(60)).stored


def refused(engine: CheckpointEngine, *what: Any, **options: Any) -> str:
    """Save it, sync and async; the message of the one typed error that both raise."""

    async def save() -> None:
        await engine.save(*what, **options)

    seen = set()
    for attempt in (lambda: engine.save_sync(*what, **options), lambda: asyncio.run(save())):
        with pytest.raises(LivingAIError) as caught:
            attempt()
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy)) == (caught.type, str(caught.value))
        seen.add((caught.type.__name__, str(caught.value)))
    ((name, text),) = seen
    return f"{name}: {text}"


def recursive() -> list[Any]:
    """A list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> list[Any]:
    """A list nested 100,000 times."""
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (object, "object"),
        (lambda: {"messages": ["hi", {"tool": print}]}, "builtin_function_or_method"),
        (lambda: [1, 2, Ellipsis], "ellipsis"),
        (lambda: (number for number in range(3)), "generator"),
        (lambda: ValueError("x"), "ValueError"),
        (recursive, "contains itself"),
        (deep, "deep"),
        (lambda: ExecutionNode("run-1"), "ExecutionNode"),
    ],
)
def test_state_that_cannot_be_encoded(
    engine: CheckpointEngine, make: Callable[[], Any], says: str
) -> None:
    state = make()
    message = refused(engine, ExecutionNode("run-1"), state)
    assert message.startswith("StateEncodingError")
    assert says in message


def test_the_place_of_what_cannot_be_encoded_is_named(engine: CheckpointEngine) -> None:
    message = refused(engine, ExecutionNode("run-1"), {"memory": [1, {"socket": object()}]})
    assert "memory" in message
    assert "socket" in message


def test_state_that_is_too_large(engine: CheckpointEngine) -> None:
    for state in (b"x" * 100_001, bytearray(100_001), ["x" * 50_000] * 2):
        message = refused(engine, ExecutionNode("run-1"), state)
        assert message.startswith("StateTooLargeError")
        assert "max_state_bytes=100000" in message
        assert "raise the limit" in message
    with pytest.raises(StateTooLargeError):
        engine.save_sync(ExecutionNode("run-1", output="x" * 100_001))
    with pytest.raises(ValueError, match="run-7"):
        engine.save_sync(ExecutionNode("run-7"), b"x" * 100_001)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (ExecutionNode(""), "execution_id must be a non-empty string"),
        (ExecutionNode(None), "execution_id must be a non-empty string"),  # type: ignore[arg-type]
        (ExecutionNode(7), "execution_id must be a non-empty string"),  # type: ignore[arg-type]
        (ExecutionNode("x" * 513), "shorter id"),
        (ExecutionNode("lone \ud800"), "execution_id"),
        (ExecutionNode("run-1", id=""), "id must be a non-empty string"),
        (ExecutionNode("run-1", id="lone \udc80"), "no valid Unicode"),
        (ExecutionNode("run-1", parent_id="lone \ud800"), "parent_id"),
        (ExecutionNode("run-1", parent_id="x" * 513), "parent_id"),
        (ExecutionNode("run-1", parent_id=7), "parent_id"),  # type: ignore[arg-type]
        (ExecutionNode("run-1", type="prompt"), "NodeType"),  # type: ignore[arg-type]
        (ExecutionNode("run-1", status=None), "Status"),  # type: ignore[arg-type]
        (ExecutionNode("run-1", metadata=[]), "metadata must be a dict"),  # type: ignore[arg-type]
        (ExecutionNode("run-1", output=object()), "cannot be encoded"),
        (ExecutionNode("run-1", error="text"), "error"),  # type: ignore[arg-type]
        (None, "ExecutionNode(execution_id="),
        ("run-1", "ExecutionNode(execution_id="),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_node_that_cannot_be_stored(engine: CheckpointEngine, node: Any, says: str) -> None:
    message = refused(engine, node, b"state")
    assert message.startswith("InvalidNodeError")
    assert says in message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tags": {"x": object()}}, "StateEncodingError"),
        ({"tags": ["x"]}, "tags"),
        ({"tags": {"_owner": "0-1"}}, "underscore"),
        ({"tags": {7: "x"}}, "a tag's name must be a string"),
        ({"budget_ms": -1}, "budget_ms"),
        ({"budget_ms": "soon"}, "budget_ms"),
        ({"budget_ms": float("nan")}, "budget_ms"),
        ({"durability": 3}, "durability"),
        ({"durability": "store"}, "durability"),
    ],
)
def test_option_that_cannot_work(
    engine: CheckpointEngine, options: dict[str, Any], says: str
) -> None:
    assert says in refused(engine, ExecutionNode("run-1"), b"state", **options)


def test_errors_are_also_builtin_errors(engine: CheckpointEngine) -> None:
    with pytest.raises(TypeError):
        engine.save_sync(ExecutionNode("run-1"), object())
    with pytest.raises(ValueError, match="non-empty"):
        engine.save_sync(ExecutionNode(""), b"state")
    assert issubclass(StateEncodingError, LivingAIError)
    assert issubclass(InvalidNodeError, LivingAIError)
