"""The queries of ``docs/STORES.md`` on a run of several lives: its calls are read in order."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import acts, programs
from tests.support.agents import ROOT
from tests.support.place import Place
from tests.support.postgres_servers import shared_url

DOCS = (ROOT / "docs" / "STORES.md").read_text()
RUN = "run-1"
Read = Callable[[str], list[tuple[Any, ...]]]


def _sqlite(folder: Path) -> tuple[str, Read]:
    path = folder / "hand.db"

    def read(query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(query).fetchall()

    return f"sqlite:///{path}", read


def _postgres(folder: Path) -> tuple[str, Read]:
    schema = f"t_{secrets.token_hex(6)}"

    def read(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(shared_url(), autocommit=True) as connection:
            connection.execute(f"SET search_path TO {schema}".encode())
            return connection.execute(query.encode()).fetchall()

    return f"{shared_url()}&schema={schema}", read


def documented(language: str, question: str) -> str:
    (query,) = re.findall(
        rf"```{language}\n-- {re.escape(question)}.*?\n(SELECT.*?)```", DOCS, re.S
    )
    return str(query)


@pytest.fixture(
    params=[
        pytest.param(("sql", _sqlite), id="sqlite"),
        pytest.param(("postgresql", _postgres), id="postgres", marks=pytest.mark.postgres),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, Read]:
    """How its queries are marked, its URL, and how to ask it; before the place, which counts the
    processes."""
    language, make = request.param
    return (language, *make(tmp_path))


def test_calls_are_read_in_order_and_lives_distinguished(
    store: tuple[str, str, Read], state_dir: Place
) -> None:
    language, url, read = store
    file = str(state_dir.folder / "world")
    place = {"database": url, "directory": str(state_dir.folder / "here")}
    for moment in ("in step 1", "tool before effect 1"):
        state_dir.agent(**place).send(programs.perform, RUN, file, moment)
        assert state_dir.agents[-1].died(60) == -9
    agent = state_dir.agent(**place)
    agent.call(acts.look_in, RUN)
    agent.call(programs.perform, RUN, file, resolve=True)
    agent.call(acts.drain)

    calls = read(documented(language, "What did one run do, call by call?"))
    names = [(life, call, kind, name, status) for _, life, call, kind, name, status, *_ in calls]
    assert names == [
        (1, "0", "prompt", "think", "success"), (1, "1", "tool", "charge", "success"),
        (2, "3", "prompt", "think", "success"),  # made again: the first life died in it
        (2, "4", "tool", "charge", "success"),  # begun in the second life, ended in the last one
        (4, "6", "prompt", "think", "success"), (4, "7", "tool", "charge", "success"),
    ]  # fmt: skip
    numbers = [line[0] for line in calls]
    assert numbers == sorted(set(numbers)), "one row of numbers for all lives"

    lives = read(documented(language, "Which processes have worked on it, and how did each end?"))
    assert [line[:2] for line in lives] == [
        (1, "running"), (2, "running"), (3, "pending"), (4, "success"),
    ]  # fmt: skip
    steps = read(f"SELECT number, kind FROM steps WHERE execution_id = '{RUN}'")
    assert [number for number, _ in steps] == list(range(1, 14)), "in order by themselves"
    assert [kind for _, kind in steps].count("checkpoint") == programs.TOOLS
    ((status, life, ended),) = read("SELECT status, life, ended IS NOT NULL FROM runs")
    assert (status, life, bool(ended)) == ("success", 4, True)
