"""Settings that cannot work are refused when the engine is built; limits hold at their defaults."""

from __future__ import annotations

from typing import Any

import pytest

from livingai import CheckpointEngine, Durability, ExecutionNode, SQLiteStore
from livingai.errors import ConfigurationError, StateTooLargeError
from tests.support import peek
from tests.support.patience import patience
from tests.support.place import Place


def test_default_limit_is_64_mib(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        with pytest.raises(StateTooLargeError, match=str(64 << 20)):
            engine.save_sync(ExecutionNode("run-1"), bytes((64 << 20) + 1))
        node = ExecutionNode("run-1")
        state = bytes(range(256)) * ((40 << 20) // 256)
        assert engine.save_sync(node, state).result(patience(60)).stored
        assert engine.latest_sync("run-1")[1] == state
    assert peek.stored_state(state_dir.database, "run-1") == state


def test_a_budget_of_a_year_is_accepted(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        receipt = engine.save_sync(ExecutionNode("run-1"), b"state", budget_ms=86_400_000.0 * 365)
        assert receipt.result(patience(60)).status == "met"


def test_endless_budget_and_timeout_are_accepted(state_dir: Place) -> None:
    endless = float("inf")
    with state_dir.engine(budget_ms=endless, on_full_timeout_s=endless) as engine:
        receipt = engine.save_sync(ExecutionNode("run-1"), b"state", durability=Durability.FSYNC)
        assert receipt.result(patience(60)).status == "met"


def test_a_wrong_store_or_path_is_refused(state_dir: Place) -> None:
    for wrong in (str(state_dir.database), None, SQLiteStore):
        with pytest.raises(ConfigurationError, match="takes a store such as SQLiteStore"):
            CheckpointEngine(wrong)  # type: ignore[arg-type]
    for path in (":memory:", "", "x\0y"):
        with pytest.raises(ConfigurationError, match="path of a file"):
            SQLiteStore(path)
    assert Durability.STORE > Durability.FSYNC > Durability.JOURNAL


@pytest.mark.parametrize(
    "settings",
    [
        {"budget_ms": 0},
        {"cache_ttl_s": float("inf")},
        {"fsync_interval_ms": 1e300},
        {"service_timeout_s": float("inf")},
        {"idle_s": float("nan")},
        {"budget_ms": "50"},
        {"cache_bytes": -1},
        {"linger_ms": -1},
        {"linger_ms": 101},
        {"cache_bytes": "many"},
        {"idle_s": None},
        {"journal_bytes": 1 << 20},
        {"segment_bytes": 1},
        {"on_full": "drop"},
        {"codec": "lzma"},
        {"durability": 2},
        {"compressors": 0},
        {"writers": "all"},
        {"budget": 50},
        {"directory": 7},
        {"max_state_bytes": 1 << 40},
    ],
    ids=str,
)
def test_setting_that_cannot_work(state_dir: Place, settings: dict[str, Any]) -> None:
    """At construction, before anything is made."""
    (name,) = settings
    with pytest.raises(ConfigurationError, match=name):
        CheckpointEngine(state_dir.store(), **settings)
    assert list(state_dir.folder.iterdir()) == []
