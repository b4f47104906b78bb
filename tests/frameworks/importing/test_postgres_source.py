"""``livingai import --from langgraph-postgres``: databases that real graphs have made."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.postgres")

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import Command

from livingai.adapters.langgraph import LivingAISaver
from livingai.importing.kinds import ImportOptions, ImportSummary, load
from tests.frameworks.importing import graphs
from tests.frameworks.importing.commands import imported, run_import
from tests.frameworks.importing.graphs import (
    DELETED,
    DONE,
    INTERRUPTED,
    LONG,
    chat_graph,
    config_of,
    contents,
)
from tests.support.place import Place
from tests.support.postgres_servers import shared_server

KIND = "langgraph-postgres"
pytestmark = pytest.mark.postgres


@pytest.fixture
def dsn() -> Iterator[str]:
    """An empty database of the shared server."""
    server, name = shared_server(), f"source_{secrets.token_hex(6)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield server.url(name)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def made(dsn: str) -> None:
    """A program on AsyncPostgresSaver, and one on PostgresSaver."""

    async def make() -> None:
        async with AsyncPostgresSaver.from_conn_string(dsn) as saver:
            await saver.setup()
            await graphs.alive(saver)

    asyncio.run(make())


def theirs(dsn: str, thread_id: str) -> list[Any]:
    with PostgresSaver.from_conn_string(dsn) as saver:
        return contents(saver, thread_id)


def rows(dsn: str) -> list[Any]:
    """All that the source has, with where each row lies: a row that is written again moves."""
    found = []
    with psycopg.connect(dsn) as connection:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            query = f"SELECT ctid::text, xmin::text, * FROM {table} ORDER BY 1".encode()
            found += connection.execute(query).fetchall()
    return found


def test_all_that_the_saver_showed_is_shown(dsn: str, place: Place) -> None:
    made(dsn)
    before = rows(dsn)
    summary = imported(place, KIND, dsn)
    assert rows(dsn) == before
    assert summary["threads"] == 3
    assert summary["added_checkpoints"] == summary["verified_checkpoints"] == 46
    assert summary["types"] == [f"{graphs.__name__}.Verdict"]
    with place.engine() as engine:
        saver = LivingAISaver(engine)
        for thread_id in (INTERRUPTED, DONE, LONG):
            assert contents(saver, thread_id) == theirs(dsn, thread_id)
        assert contents(saver, DELETED) == []
    again = imported(place, KIND, dsn)
    assert (again["added_checkpoints"], again["added_writes"]) == (0, 0)


def test_an_interrupted_graph_goes_on_after_the_move(dsn: str, place: Place) -> None:
    made(dsn)
    imported(place, KIND, dsn)
    command: Any = Command(resume="go")
    with PostgresSaver.from_conn_string(dsn) as saver, place.engine() as engine:
        expected = chat_graph(saver).invoke(command, config_of(INTERRUPTED))
        moved = chat_graph(LivingAISaver(engine))
        assert moved.invoke(command, config_of(INTERRUPTED)) == expected
        assert len(moved.get_state(config_of(INTERRUPTED)).values["messages"]) == 7


def test_an_import_that_is_killed_is_done_again(dsn: str, file_place: Place) -> None:
    made(dsn)
    for killed_at in (1, 20, 60):
        env = {"LIVINGAI_FAILPOINTS": f"journal.after_publish@command=kill*{killed_at}"}
        assert run_import(file_place, KIND, dsn, env=env).returncode == -9
    assert imported(file_place, KIND, dsn)["verified_checkpoints"] == 46
    with file_place.engine() as engine:
        for thread_id in (INTERRUPTED, DONE, LONG):
            assert contents(LivingAISaver(engine), thread_id) == theirs(dsn, thread_id)


def test_one_moment_of_a_database_in_use(dsn: str, file_place: Place) -> None:
    made(dsn)
    with PostgresSaver.from_conn_string(dsn) as saver:
        graphs.put_many(saver, 100, 80)
    seen: list[int] = []

    def progress(summary: ImportSummary) -> None:
        if not seen:
            with PostgresSaver.from_conn_string(dsn) as saver:
                saver.delete_thread(LONG)
        seen.append(summary.checkpoints)

    with file_place.engine() as engine:
        summary = load(KIND)(dsn, engine, ImportOptions(), progress)
        assert seen[0] == 100, "it was in the midst of it"
        assert (summary.threads, summary.verified_checkpoints) == (4, 146)
        assert len(contents(LivingAISaver(engine), LONG)) == 11
        assert load(KIND)(dsn, engine, ImportOptions(), progress).threads == 3


def test_what_cannot_be_imported_is_said(dsn: str, file_place: Place) -> None:
    def told(options: str = "--json") -> str:
        done = run_import(file_place, KIND, dsn, options)
        assert (done.returncode, "Traceback" in done.stderr) == (4, False)
        return done.stderr

    assert "no database of LangGraph's PostgreSQL saver" in told()
    made(dsn)
    assert "UnreadableValueError" in told("--strict")
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM checkpoint_migrations WHERE v >= 9")
    assert "older saver" in told()
    done = run_import(file_place, KIND, "postgresql://nobody@127.0.0.1:1/none")
    assert (done.returncode, "ImportSourceError" in done.stderr) == (4, True)
    secret = "postgresql:/nobody:secret@127.0.0.1/none"  # a slash is missing
    done = run_import(file_place, KIND, secret)
    assert (done.returncode, "DSN cannot be read" in done.stderr) == (4, True)
    assert "secret" not in done.stderr + done.stdout
