"""What is in the tables of PostgreSQL, as ``docs/STORES.md`` documents it."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from livingai.node import NodeField
from livingai.stores.postgres import PostgresStore
from livingai.stores.postgres.schema import SCHEMA_VERSION
from livingai.testing import make_row
from livingai.testing.rows import commit, state
from tests.support.agents import ROOT

pytestmark = pytest.mark.postgres

# -- what is in the tables --


def test_columns_are_for_people(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    row = make_row(
        "a\0b", blob=state("x" * 5000), input={"text": "a\0b \ud800 \1"}, metadata={"name": "n\0"}
    )
    commit(store, [row])
    ((execution_id, text, name),) = admin.execute(
        f"SELECT execution_id, input->>'text', name FROM {schema}.nodes".encode()
    ).fetchall()
    assert (execution_id, name) == ("a\1\1b", "n\1\1")
    assert text == "a\1\1b \\ud800 \1\2"
    ((storage,),) = admin.execute(
        "SELECT attstorage FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'blob'",
        (f"{schema}.checkpoints",),
    ).fetchall()
    assert storage in ("e", b"e")
    for view in ("runs", "steps", "states"):
        assert len(admin.execute(f"SELECT * FROM {schema}.{view}".encode()).fetchall()) == 1


def test_odd_times_do_not_break_views(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    row = make_row()
    row.saved_at = 1e300
    row.wire[NodeField.CREATED_AT] = -1e300
    commit(store, [row])
    assert admin.execute(f"SELECT updated FROM {schema}.runs".encode()).fetchall() == [(None,)]
    assert [line.group for line in store.costs(group="day")] == [""]


# -- docs/STORES.md --

DOCS = (ROOT / "docs" / "STORES.md").read_text()


def test_documented_queries_run(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    metadata = {"framework": "langgraph", "name": "search"}
    commit(store, [make_row("run-1", blob=state("s"), metadata=metadata, cost_tokens=7)])
    queries = re.findall(r"```postgresql\n(.*?)```", DOCS, flags=re.DOTALL)
    assert len(queries) >= 8
    admin.execute(f"SET search_path TO {schema}".encode())
    answers = [admin.execute(query.encode()).fetchall() for query in queries]
    assert answers[0][0][:4] == ("run-1", "success", 1, 1)
    assert answers[2] == [("run-1",)]
    assert answers[3][0][1:4] == ("search", 1, 7)


def test_documented_columns_and_settings(
    store: PostgresStore, admin: psycopg.Connection[Any], schema: str
) -> None:
    """The tables are SQLite's, but for what the documentation says."""
    found: dict[str, set[str]] = {}
    for table, column in admin.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
        "AND table_name IN ('executions', 'owners', 'nodes', 'checkpoints')", (schema,)
    ):  # fmt: skip
        found.setdefault(table, set()).add(column)
    documented = {
        section.split("`")[1]: set(re.findall(r"^\| `(\w+)` \| [A-Z]+ \|", section, flags=re.M))
        for section in re.split(r"^#### ", DOCS.partition("## PostgreSQL")[0], flags=re.M)[1:]
    }
    assert found["executions"] == documented["executions"] | {"owner_epoch", "owner_claim"}
    assert found["owners"] == documented["owners"]
    assert found["nodes"] == documented["nodes"]
    assert found["checkpoints"] == documented["checkpoints"] - {"blob_id"} | {"blob"}
    section = DOCS.partition("## PostgreSQL")[2].partition("### Asking")[0]
    defaults = dict(re.findall(r"^\| `(\w+)` \| `?(\S+?)`? \|", section, flags=re.M))
    plain = PostgresStore("postgresql://db/x").spec().kwargs
    assert defaults == {name: str(value) for name, value in plain.items() if name != "url"}
    assert f"schema: **{SCHEMA_VERSION}**" in DOCS.partition("## PostgreSQL")[2]
