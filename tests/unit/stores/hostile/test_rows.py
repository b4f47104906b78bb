"""Rows that no livingai wrote, in a store: every read answers what was written, or raises
CorruptRecordError, and other executions stay readable."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
import redis
from xxhash import xxh3_64_digest as sum_of

from livingai.errors import LivingAIError
from livingai.protocol.history import pack_history
from livingai.serial import pack
from livingai.stores.base import Store
from livingai.stores.checked import rows_of
from livingai.stores.copying import copy_store
from livingai.stores.postgres import PostgresStore
from livingai.stores.redis import RedisStore
from livingai.stores.redis.keys import Keys
from livingai.stores.retention import Retention, prune
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, state
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import prefix_for, shared_server

HOSTILE: list[Any] = [
    None, "", "x", "x" * 5000, "é\0\x01", b"", b"\xff\xfe", b"\0" * 16, -1, 0, 1 << 62,
    -(1 << 63), 1.5, float("inf"), float("nan"), [], [[]], {}, {1: 2}, True,
]  # fmt: skip


def fill(store: Store) -> None:
    for run in ("a", "run", "z"):
        rows = [make_row(run, 1, blob=state("one")), make_row(run, 2, blob=state("two"))]
        commit(store, [*rows, make_row(run, 3, node_id=f"{run}/1", output="answer")])


def read_all(store: Store, other: Store) -> list[str]:
    """Ask everything of a store whose execution "run" was tampered with: nothing but
    CorruptRecordError (or, where the server itself finds fault, another of livingai's) comes out,
    and the other executions answer. What was raised."""
    raised: list[str] = []

    def ask(read: Callable[..., Any], *given: Any, **named: Any) -> None:
        try:
            read(*given, **named)
        except LivingAIError as error:
            raised.append(f"{type(error).__name__}: {error}")

    for page in (1, 100):
        listed: list[str] = []
        while infos := store.list_executions(after=max(listed, default=None), limit=page):
            assert not set(listed) & {info.execution_id for info in infos}
            listed += [info.execution_id for info in infos]
        assert {"a", "z"} <= set(listed)
    for run in ("a", "run", "z"):
        before = len(raised)
        content = make_row(run, 1, blob=state("one")).content_hash
        assert content is not None
        ask(store.latest_checkpoint, run)
        ask(store.load_node, f"{run}/1")
        ask(lambda *given: list(store.nodes(*given)), run)
        ask(_message, store, run)
        ask(lambda *given: list(store.checkpoints(*given)), run)
        ask(lambda *given: list(store.checkpoints(*given, blobs=False)), run)
        ask(store.owners, run)
        ask(store.sized_blob, run, content)
        if run != "run":
            assert raised[before:] == [], "another execution is not concerned"
        else:
            assert [text for text in raised[before:] if "run" not in text] == []
    for group in ("execution", "name", "day"):
        ask(store.costs, group=group)
    ask(copy_store, store, other)
    ask(prune, store, Retention(keep_last=1))
    assert len(list(store.checkpoints("a"))) == 1, "the others were pruned"
    assert len(list(store.checkpoints("z"))) == 1
    return raised


def _message(store: Store, run: str) -> list[Any]:
    with rows_of(run):  # as the reader does
        return pack_history(None, None, store.packed_nodes(run))


COLUMNS = [
    *(("executions", name) for name in (
        "status", "epoch", "seq", "node_id", "nodes", "checkpoints", "stored_bytes", "cost_tokens",
        "created_at", "updated_at",
    )),
    *(("owners", name) for name in ("epoch", "claim", "last_seq")),
    *(("nodes", name) for name in (
        "node_id", "epoch", "seq", "first_epoch", "first_seq", "state_epoch", "state_seq", "type",
        "status", "name", "cost_tokens", "latency_ms", "created_at", "saved_at", "wire_sum", "wire",
    )),
    *(("checkpoints", name) for name in (
        "epoch", "seq", "node_id", "state_kind", "codec", "raw_bytes", "stored_bytes", "base_hash",
        "content_hash", "saved_at", "blob_sum",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_any_column_of_sqlite(tmp_path: Path, table: str, column: str) -> None:
    """SQLite holds any type in any column; and text that is not UTF-8."""
    hostile = [value for value in HOSTILE if not isinstance(value, (list, dict))]
    for number, value in enumerate([*hostile, _BAD_TEXT]):
        path = tmp_path / f"{number}.db"
        with SQLiteStore(path, synchronous="normal") as store:
            fill(store)
        with closing(apsw.Connection(str(path))) as raw:
            new = "CAST(x'ff41' AS TEXT)" if value is _BAD_TEXT else "?"
            bound = () if value is _BAD_TEXT else (value,)
            try:
                raw.execute(
                    f"UPDATE {table} SET {column} = {new} WHERE execution_id = 'run'", bound
                )
            except apsw.ConstraintError:
                continue  # not even another program can
        with (
            SQLiteStore(path, synchronous="normal") as store,
            SQLiteStore(tmp_path / f"{number}-copy.db", synchronous="normal") as other,
        ):
            read_all(store, other)


_BAD_TEXT = object()
#: A store with three executions, another one, and how to plant a section of a node.
Tampered = tuple[Store, Store, Callable[[bytes], object]]


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def tampered(request: Any, tmp_path: Path) -> Iterator[Tampered]:
    store: Store
    other: Store
    if request.param == "sqlite":
        with (
            SQLiteStore(tmp_path / "a.db") as store,
            SQLiteStore(tmp_path / "b.db") as other,
        ):
            fill(store)

            def plant(packed: bytes) -> None:
                with closing(apsw.Connection(str(tmp_path / "a.db"))) as raw:
                    raw.execute(
                        "UPDATE nodes SET wire = ?, wire_sum = ? WHERE node_id = 'run/1'",
                        (packed, sum_of(packed)),
                    )

            yield store, other, plant
    elif request.param == "redis":
        prefix = prefix_for(tmp_path)
        with (
            RedisStore(shared_server().url, prefix=prefix) as store,
            RedisStore(shared_server().url, prefix=f"{prefix}-b") as other,
            redis.Redis.from_url(shared_server().url, protocol=2) as client,
        ):
            fill(store)
            key = Keys(prefix).of("run").run
            yield store, other, lambda packed: client.hset(key, "w:run/1", sum_of(packed) + packed)
    else:
        schema = f"host{abs(hash(str(tmp_path))):x}"
        with (
            PostgresStore(shared_url(), schema=schema) as store,
            PostgresStore(shared_url(), schema=f"{schema}b") as other,
            psycopg.connect(shared_url(), autocommit=True) as client,
        ):
            fill(store)
            yield (
                store,
                other,
                lambda packed: client.execute(
                    f"UPDATE {schema}.nodes SET wire = %s, wire_sum = %s WHERE node_id = 'run/1'",
                    (packed, sum_of(packed)),
                ),
            )


def test_sections_of_other_shapes(tampered: Tampered) -> None:
    store, other, plant = tampered
    right = make_row("run", 1).wire
    shapes: list[Any] = [*HOSTILE, right[:5], [], right[:12], [["run", "run/1"]], {"run": "run/1"}]
    for place in (0, 1, 2, 3, 11, 12):
        shapes += [[*right[:place], value, *right[place + 1 :]] for value in HOSTILE]
    planted = [pack(shape) for shape in shapes]
    planted += [
        b"\xc1",
        b"\xc1\x90",
        pack(right)[:-1],
        pack(right) + b"\0",
        b"\xdd\xff\xff\xff\xff",
    ]
    planted += [struct.pack(">BI", 0xDD, 1 << 20) * 200]
    for packed in planted:
        plant(packed)
        read_all(store, other)


@pytest.mark.redis
def test_any_key_of_redis(tmp_path: Path) -> None:
    """Fields and keys of an execution, set to other values and to other types."""
    prefix = prefix_for(tmp_path)
    keys = Keys(prefix)
    run = keys.of("run")
    garbage = [
        b"",
        b"x",
        b"\xff\xfe",
        b"a1" * 40,
        b"-1",
        b"1e400",
        b"nan",
        b"9" * 30,
        b"a1a9 a1a1 1",
    ]
    with (
        redis.Redis.from_url(shared_server().url, protocol=2) as client,
        RedisStore(shared_server().url, prefix=f"{prefix}-other") as other,
        RedisStore(shared_server().url, prefix=prefix) as store,
    ):
        fill(store)
        fields: dict[bytes, bytes] = client.hgetall(run.run)
        for field, before in fields.items():
            for value in (
                *garbage,
                None,
                before[:-1],
                sum_of(b"\x90") + b"\x90",
                sum_of(b"") + b"",
            ):
                if value is None:
                    client.hdel(run.run, field)
                else:
                    client.hset(run.run, field, value)
                read_all(store, other)
                client.hset(run.run, field, before)
        for key in (run.owners, run.places, run.run):
            saved = client.dump(key)
            client.delete(key)
            for make in ("set", "rpush"):
                getattr(client, make)(key, b"x")
                read_all(store, other)
                client.delete(key)
            client.restore(key, 0, saved)
        client.zadd(run.ids, {b"\xff\xfe": 0, b"m\xff": 0})
        client.hset(run.nodes, "run/1", b"\xff\xff\xff")
        read_all(store, other)


@pytest.mark.postgres
def test_any_column_of_postgres(tmp_path: Path) -> None:
    schema = f"cols{abs(hash(str(tmp_path))):x}"
    hostile: dict[str, list[Any]] = {
        "bigint": [-1, 0, 1 << 62, -(1 << 63)], "integer": [-1, 0, (1 << 31) - 1],
        "smallint": [-1, 99], "bytea": [b"", b"x", b"\0" * 16],
        "text": ["", "x", "\1x", "\1", "\1\1\1"],
        "double precision": [-1.0, float("inf"), float("nan"), 1e300],
    }  # fmt: skip
    with (
        PostgresStore(shared_url(), schema=schema) as store,
        PostgresStore(shared_url(), schema=f"{schema}b") as other,
        psycopg.connect(shared_url(), autocommit=True) as client,
    ):
        fill(store)
        columns = client.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = ANY (%s)",
            (schema, ["executions", "owners", "nodes", "checkpoints"]),
        ).fetchall()
        assert len(columns) > 40
        for table, column, kind in columns:
            for value in (None, *hostile.get(kind, [])):
                if column == "execution_id":
                    continue
                try:
                    client.execute(
                        f"UPDATE {schema}.{table} SET {column} = %s WHERE execution_id = 'run'",
                        (value,),
                    )
                except psycopg.IntegrityError:
                    continue
                read_all(store, other)
                client.execute(f"DELETE FROM {schema}.{table}")
                for name in ("executions", "owners", "nodes", "checkpoints"):
                    client.execute(f"DELETE FROM {schema}.{name}")
                fill(store)
        for name in ("executions", "nodes"):
            client.execute(
                f"UPDATE {schema}.{name} SET execution_id = %s WHERE execution_id = 'run'",
                ("\1xrun",),
            )
        read_all(store, other)
