"""Histories to copy, and how to compare what two stores have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livingai import codecs
from livingai.node import NodeField
from livingai.stores.base import Row, Store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import contents as all_of
from livingai.testing.rows import make_row
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import prefix_for, shared_server

KINDS = [
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]


def make_store(kind: str, folder: Path, name: str) -> Store:
    if kind == "redis":
        return RedisStore(shared_server().url, prefix=prefix_for(folder / name))
    if kind == "postgres":
        schema = f"copy{abs(hash((str(folder), name))):x}"
        return PostgresStore(shared_url(), schema=schema)
    return SQLiteStore(folder / f"{name}.db", synchronous="normal")


def contents(store: Store) -> dict[str, Any]:
    """All that it has, but for times of writes that had no state: no store keeps those."""
    told = all_of(store)
    told["list"] = {name: (*line[:5], line[7]) for name, line in told["list"].items()}
    return told


def encoded(seq: int, raw: bytes, base: bytes | None = None, **fields: Any) -> Row:
    """A row with a state as the service encodes it."""
    made = codecs.encode(raw, base=base)
    row = make_row(seq=seq, blob=made.blob, base_hash=made.base_hash,
                   content_hash=codecs.content_hash(raw), **fields)  # fmt: skip
    row.raw_bytes = len(raw)
    return row


def chat(seq: int) -> bytes:
    return b"".join(b"message %d of a chat that grows and grows\n" % n for n in range(60 * seq))


def history(*, claim: str = "mine", until: int = 6) -> list[Row]:
    """A run with deltas, a tool in two versions, a node without a state, and two owners."""
    rows = [
        encoded(1, chat(1), claim=claim),
        encoded(2, chat(2), chat(1), claim=claim),
        make_row(seq=3, node_id="tool", claim=claim, input="ask"),
        make_row(seq=4, node_id="tool", claim=claim, input="ask", output="answer"),
        encoded(1, chat(3), claim=f"{claim}-2", node_id="later"),
        encoded(2, chat(4), chat(3), claim=f"{claim}-2"),
    ]
    rows[5].node_id = rows[5].wire[NodeField.ID] = "last"
    return rows[:until]
