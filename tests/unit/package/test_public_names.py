"""Names and numbers that others hold on to: programs, configurations, scripts, and stored data.

Each is written here once more as a literal, so that a change which moves one is seen.
"""

from __future__ import annotations

import importlib
import tomllib

import pytest

import livingai
from livingai.protocol import frames
from livingai.queue import layout
from livingai.stores.base import StoreSpec
from livingai.stores.opening import open_store
from livingai.stores.postgres import PostgresStore
from livingai.stores.postgres import schema as postgres_schema
from livingai.stores.redis import RedisStore
from livingai.stores.redis import store as redis_store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.sqlite import schema as sqlite_schema
from livingai.stores.tiered import TieredStore
from tests.support.agents import ROOT

NAMES = {
    "CallOptions", "CheckpointEngine", "Durability", "EngineConfig", "ErrorInfo", "ExecutionNode",
    "LivingAIError", "NodeType", "Outcome", "OutcomeStatus", "PostgresStore", "Receipt",
    "RecoveryEngine", "RecoveryPlan", "RedisStore", "ReplayMode", "ReplayResult", "ReplaySession",
    "Resolution", "Retention", "Run", "RunSettings", "SQLiteStore", "Service", "Sla", "Status",
    "SyncRun", "TieredStore", "__version__", "current_run", "open_store", "register_exception",
    "step", "tool",
}  # fmt: skip

POSTGRES = "postgresql://user@host/db"
REDIS = "redis://host:6379/0"


def test_no_public_name_is_gone() -> None:
    assert set(livingai.__all__) >= NAMES


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("livingai.stores.redis", "RedisStore"),
        ("livingai.stores.sqlite", "SQLiteStore"),
        ("livingai.stores.postgres", "PostgresStore"),
        ("livingai.stores.tiered", "TieredStore"),
    ],
)
def test_a_store_is_where_programs_import_it_from(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is getattr(livingai, name)


def test_what_an_agent_calls_a_store_when_it_starts_the_service() -> None:
    """A service of another build is sent these."""
    stores = (SQLiteStore("a.db"), RedisStore(REDIS), PostgresStore(POSTGRES))
    specs = [store.spec() for store in (*stores, TieredStore(stores[1], stores[0]))]
    assert [spec.path for spec in specs] == [
        "livingai.stores.sqlite:SQLiteStore",
        "livingai.stores.redis:RedisStore",
        "livingai.stores.postgres:PostgresStore",
        "livingai.stores.tiered:TieredStore",
    ]
    for spec in specs:
        assert type(StoreSpec(spec.path, spec.kwargs).build()).__name__ == spec.path.split(":")[1]


@pytest.mark.parametrize(
    ("url", "cls"),
    [
        ("agent.db", SQLiteStore),
        ("sqlite:///agent.db", SQLiteStore),
        (REDIS, RedisStore),
        ("rediss://host:6379/0", RedisStore),
        ("unix:///run/redis.sock", RedisStore),
        ("redis+cluster://host:6379", RedisStore),
        ("rediss+cluster://host:6379", RedisStore),
        ("redis+sentinel://host:26379/service", RedisStore),
        ("rediss+sentinel://host:26379/service", RedisStore),
        (POSTGRES, PostgresStore),
        (POSTGRES.replace("postgresql", "postgres"), PostgresStore),
        (f"tiered:{REDIS}|sqlite:///agent.db", TieredStore),
    ],
)
def test_a_url_names_its_store(url: str, cls: type) -> None:
    assert type(open_store(url)) is cls


def test_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"livingai": "livingai.cli.main:main"}


def test_versions_of_what_is_stored_or_sent() -> None:
    """A number here changes only together with code that still reads the older form."""
    assert layout.FORMAT_VERSION == 1
    assert (layout.RECORD_MAGIC, layout.SEGMENT_MAGIC) == (b"LAIr", b"LAISEG\0\1")
    assert (layout.CONTROL_MAGIC, layout.INDEX_MAGIC) == (b"LAICTL\0\1", b"LAIIDX\0\1")
    assert frames.PROTOCOL_VERSION == 1
    assert redis_store.SCHEMA_VERSION == 1
    assert (sqlite_schema.SCHEMA_VERSION, postgres_schema.SCHEMA_VERSION) == (2, 2)
