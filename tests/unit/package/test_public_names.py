"""Names and numbers that others hold on to: programs, configurations, scripts, and stored data.

Each is written here once more as a literal, so that a change which moves one is seen.
"""

from __future__ import annotations

import importlib
import tomllib
from enum import Enum

import pytest

import livingai
from livingai import EngineConfig, NodeType, Status, codecs
from livingai.codecs import blob
from livingai.errors import ConfigurationError
from livingai.node import NodeField
from livingai.outcome import STATUS_BY_CODE
from livingai.protocol import frames
from livingai.queue import layout
from livingai.stores.base import RowStatus, StoreSpec
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


def test_first_bytes_of_blobs() -> None:
    """Every checkpoint in a store begins with one; ``tests/unit/codecs/test_format.py`` has a whole
    blob of each."""
    assert {codec.name.lower(): int(codec) for codec in codecs.Codec} == {
        "raw": 0, "zlib": 1, "zstd": 2, "delta": 3, "prefix": 4,
    }  # fmt: skip
    assert (blob.HEAD.format, blob.HEAD_BYTES) == ("<Q16sQ", 32)
    base, state = bytes(range(256)) * 8, bytes(range(256)) * 8 + b"more"
    for name, first in (("raw", 0), ("zlib", 1), ("zstd", 2), ("delta", 3), ("prefix", 4)):
        encoded = codecs.encode(state, codec=name, base=base)
        assert (encoded.codec, encoded.blob[0]) == (first, first)
    for name in ("auto", "zstd", "zlib", "raw"):
        EngineConfig(codec=name).validate()
    with pytest.raises(ConfigurationError):
        EngineConfig(codec="none").validate()


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (layout.StateKind, {"NONE": 0, "BYTES": 1, "MSGPACK": 2, "BYTEARRAY": 3}),
        (layout.Kind, {"WRITE": 1, "SEAL": 2}),
        (layout.Flag, {"STATE": 1, "LATEST_ONLY": 2, "ENCRYPTED": 4, "WHOLE": 8}),
        (
            layout.ExtensionKey,
            {
                "OWNER": "_owner", "TENANT": "_tenant", "TRACE": "_trace", "BASE": "_base",
                "ENCRYPTION": "_encryption",
            },
        ),
        (
            NodeField,
            {
                "EXECUTION_ID": 0, "ID": 1, "TYPE": 2, "STATUS": 3, "PARENT_ID": 4,
                "CREATED_AT": 5, "COMPLETED_AT": 6, "COST_TOKENS": 7, "LATENCY_MS": 8, "INPUT": 9,
                "OUTPUT": 10, "ERROR": 11, "METADATA": 12,
            },
        ),
        (NodeType, {each: each.lower() for each in ("PROMPT", "TOOL", "MEMORY", "BRANCH")}),
        (Status, {each: each.lower() for each in ("PENDING", "RUNNING", "SUCCESS", "FAILED")}),
        (
            frames.Message,
            {
                "HELLO": 1, "ATTACH": 2, "WAKE": 3, "OUTCOMES": 4, "REQUEST": 5, "RESPONSE": 6,
                "GOODBYE": 7, "TROUBLE": 8,
            },
        ),
        (RowStatus, {"STORED": 1, "FENCED": 2, "REFUSED": 3, "BASE_MISSING": 4}),
    ],
)  # fmt: skip
def test_numbers_and_words_that_are_stored_or_sent(
    numbers: type[Enum], expected: dict[str, object]
) -> None:
    """What is there keeps its number or word; another one may be added behind it."""
    found = {name: each.value for name, each in numbers.__members__.items()}
    assert {name: found.get(name) for name in expected} == expected


def test_codes_of_outcomes() -> None:
    """They are in the journals' outcome words."""
    assert {code: str(status) for code, status in STATUS_BY_CODE.items()} == {
        1: "met", 2: "late", 3: "superseded", 4: "fenced", 5: "quarantined",
    }  # fmt: skip


def test_forms_of_what_is_stored_or_sent() -> None:
    assert layout.OUTCOME_WORD.format == "<Q"
    assert (layout.OUTCOME_STATUS_BITS, layout.OUTCOME_LATENCY_BITS) == (4, 36)
    assert (layout.RECORD_HEADER_BYTES, layout.OUTCOME_OFFSET) == (128, 120)
    assert layout.SEGMENT_FIELDS.format == "<8sIIQIIQQQ16sQ32x"
    assert layout.CONTROL_FIELDS.format == "<8sIIQ16sQQ"
    assert (frames.LENGTH.format, frames.OUTCOME_PAIR.format) == ("<I", "<QQ")
    assert frames.REVISION >= 1
