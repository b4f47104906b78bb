"""SQLite past the store: SQL on its file, and other processes that use the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw

from tests.support.agents import ROOT
from tests.support.patience import patience


def raw(path: Path, sql: str, *bindings: Any) -> list[Any]:
    """Run SQL past the store; its rows. Through apsw: the standard library has a second copy of
    SQLite, and closing a connection of that copy would release the store's file locks."""
    with closing(apsw.Connection(str(path))) as connection:
        return connection.execute(sql, bindings).fetchall()


def python(code: str, *arguments: object) -> str:
    """Run ``code`` in another process; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=patience(60), check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(database: Path, condition: str = "1", why: str = "no poison here") -> None:
    """Have the database refuse nodes, as a constraint of its owner's would."""
    _run(
        database,
        f"CREATE TRIGGER refuse BEFORE INSERT ON nodes WHEN {condition} "
        f"BEGIN SELECT raise(ABORT, '{why}'); END",
    )


@contextmanager
def refusing(database: Path, condition: str = "1", why: str = "no") -> Iterator[None]:
    """Have the database refuse nodes for a while."""
    refuse(database, condition, why)
    try:
        yield
    finally:
        _run(database, "DROP TRIGGER refuse")


def _run(database: Path, sql: str) -> None:
    with closing(apsw.Connection(str(database))) as connection:
        connection.set_busy_timeout(int(patience(20) * 1000))
        connection.execute(sql)
