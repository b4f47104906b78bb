"""SQLite past the store: SQL on its file, and other processes that use the file."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
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


def refuse(database: Path, condition: str) -> None:
    """Have the database refuse nodes, as a constraint of its owner's would."""
    with closing(apsw.Connection(str(database))) as connection:
        connection.set_busy_timeout(5000)
        connection.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON nodes WHEN {condition} "
            "BEGIN SELECT raise(ABORT, 'no poison here'); END"
        )
