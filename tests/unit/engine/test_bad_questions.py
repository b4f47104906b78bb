"""A question that makes no sense is refused where it is asked, with its argument's name. Nothing is
sent, so no store answers it in a way of its own."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionFilter, ReplaySession, Retention, SQLiteStore
from livingai.errors import ConfigurationError
from livingai.protocol.executions import MAX_PAGE, filter_from_wire, page_request

#: More digits than Python shows.
HUGE = 10**5000
LONE = "lone \ud800"
NO_TEXTS: list[Any] = [7, b"run", object(), ["run"], HUGE, LONE]
NOW = datetime.datetime.now(datetime.UTC)


def kind(value: object) -> str:
    return type(value).__name__


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"metadata": {"x": 1 << 70}}, r"metadata\['x'\]"),
    ({"metadata": {"x": 1 << 63}}, r"metadata\['x'\]"),
    ({"metadata": {"x": -(1 << 63) - 1}}, r"metadata\['x'\]"),
    ({"metadata": {"x": HUGE}}, r"metadata\['x'\]"),
    ({"metadata": {"x": math.nan}}, r"metadata\['x'\]"),
    ({"metadata": {"x": math.inf}}, r"metadata\['x'\]"),
    ({"metadata": {"x": NOW}}, r"metadata\['x'\]"),
    ({"metadata": {"x": None}}, r"metadata\['x'\]"),
    ({"metadata": {"x": LONE}}, r"metadata\['x'\]"),
    ({"metadata": {LONE: 1}}, "a key of metadata"),
    ({"metadata": {7: 1}}, "a key of metadata"),
    ({"metadata": [("x", 1)]}, "metadata must be a dict"),
    ({"metadata": None}, "metadata must be a dict"),
    ({"statuses": "failed"}, "statuses"),
    ({"statuses": 7}, "statuses"),
    ({"statuses": None}, "statuses"),
    ({"statuses": iter(["failed"])}, "statuses"),
    ({"statuses": ("failde",)}, "failde"),
    ({"statuses": (HUGE,)}, "status"),
    *[
        ({name: time}, f"{name} must be a number of seconds")
        for name in ("updated_after", "updated_before")
        for time in (NOW, "x", "1.5", math.nan, True, 10**400, NOW.date(), 1j)
    ],
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[CheckpointEngine]:
    """An engine that is still inert when the test is over: it was asked nothing."""
    directory = tmp_path / "state"
    with CheckpointEngine(SQLiteStore(tmp_path / "agent.db"), directory=str(directory)) as engine:
        yield engine
        assert not directory.exists()


def refused(engine: CheckpointEngine, name: str, *arguments: Any, **named: Any) -> str:
    """Ask both twins; the message of the one error that both raise."""

    async def ask() -> None:
        await getattr(engine, name)(*arguments, **named)

    with pytest.raises(ConfigurationError) as caught:
        getattr(engine, f"{name}_sync")(*arguments, **named)
    with pytest.raises(ConfigurationError) as twin:
        asyncio.run(ask())
    assert str(twin.value) == str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("fields", "says"), FILTERS, ids=kind)
def test_a_filter_that_no_store_can_apply(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ExecutionFilter(**fields)


def test_a_filter_is_checked_again_when_it_is_asked_with(engine: CheckpointEngine) -> None:
    where = ExecutionFilter()
    where.metadata["x"] = 1 << 70
    assert "metadata['x']" in refused(engine, "executions", where=where)
    assert "where must be an ExecutionFilter" in refused(engine, "executions", where={"x": 1})


def test_what_a_filter_may_hold() -> None:
    metadata = {"s": "ä\0", "i": -(1 << 63), "j": (1 << 63) - 1, "f": 1e300, "b": True}
    where = ExecutionFilter(("failed",), 1 << 70, math.inf, metadata)  # type: ignore[arg-type]
    wire = page_request(None, 1, "", where)[3]
    assert wire == [["failed"], float(1 << 70), math.inf, metadata]
    assert filter_from_wire(wire) == where
    assert filter_from_wire(None) is None


@pytest.mark.parametrize(
    "wire",
    [7, "four", [], [[], None, None], [[], None, None, {}, 1], [None, None, None, {}],
     [[], None, None, None], [["x"], None, None, {}], [[], "x", None, {}], [7, 1.0, 1.0, {}],
     [[[]], None, None, {}], {0: 1, 1: 2, 2: 3, 3: 4}],
    ids=str,
)  # fmt: skip
def test_a_filter_of_a_request_that_is_none(wire: Any) -> None:
    with pytest.raises(ConfigurationError):
        filter_from_wire(wire)


@pytest.mark.parametrize("limit", [0, -1, 1.5, 1.0, "1", None, True, MAX_PAGE + 1, HUGE], ids=kind)
def test_a_page_of_no_sensible_size(engine: CheckpointEngine, limit: Any) -> None:
    says = refused(engine, "executions", limit=limit)
    assert f"limit must be an integer from 1 to {MAX_PAGE}" in says


@pytest.mark.parametrize("value", [None, *NO_TEXTS], ids=kind)
@pytest.mark.parametrize(
    ("question", "argument"),
    [
        ("latest", "execution_id"), ("nodes", "execution_id"), ("history", "execution_id"),
        ("load", "node_id"), ("delete", "execution_id"), ("claim", "execution_id"),
    ],
)  # fmt: skip
def test_an_id_that_is_no_text(
    engine: CheckpointEngine, question: str, argument: str, value: Any
) -> None:
    assert f"{argument} must be text" in refused(engine, question, value)


@pytest.mark.parametrize("value", NO_TEXTS, ids=kind)
def test_other_texts_that_are_none(engine: CheckpointEngine, value: Any) -> None:
    assert "prefix must be text" in refused(engine, "executions", prefix=value)
    assert "after must be text" in refused(engine, "executions", after=value)
    assert "prefix must be text" in refused(engine, "costs", prefix=value)
    assert "group must be one of execution, name, day" in refused(engine, "costs", value)
    assert "execution_id must be text" in refused(engine, "fork", value, "new")
    assert "new_id must be text" in refused(engine, "fork", "old", value)
    assert "known must be what cached() gave" in refused(engine, "history", "run", known=value)
    assert "retention must be a Retention" in refused(engine, "prune", value)
    with pytest.raises(ConfigurationError, match="execution_id must be text"):
        engine.cached(value)
    session = ReplaySession(engine, "run")
    with pytest.raises(ConfigurationError, match="new_id must be text"):
        session.run_sync({}, new_id=value)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"keep_last": 0}, "keep_last must be an integer"),
        ({"keep_last": 1.5}, "keep_last must be an integer"),
        ({"keep_last": "1"}, "keep_last must be an integer"),
        ({"keep_last": 1 << 70}, "keep_last must be an integer"),
        ({"expire_s": "1"}, "expire_s must be a number of seconds"),
        ({"expire_s": datetime.timedelta(1)}, "expire_s must be a number of seconds"),
        ({"max_age_s": math.nan}, "max_age_s must be a number of seconds"),
        ({"max_age_s": -1}, "max_age_s must be a positive"),
        ({"keep_last": 1, "prefix": 7}, "prefix must be text"),
        ({"keep_last": 1, "statuses": 7}, "statuses"),
    ],
    ids=str,
)
def test_a_retention_policy_that_cannot_be_applied(
    engine: CheckpointEngine, policy: dict[str, Any], says: str
) -> None:
    assert says in refused(engine, "prune", Retention(**policy))
