"""Notes about an SQLite database itself: its identity, and the state directories on it.

The table is made when it is first needed and is no part of the schema's version, so a livingai that
does not know it can use the file as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livingai.stores.sqlite.file import DatabaseFile

if TYPE_CHECKING:
    import apsw

TABLE: Final = """
CREATE TABLE IF NOT EXISTS livingai_marks (
    name   TEXT NOT NULL PRIMARY KEY,
    value  TEXT NOT NULL
) WITHOUT ROWID
"""
_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'livingai_marks'"
_ALL = "SELECT name, value FROM livingai_marks"
_ONE = "SELECT value FROM livingai_marks WHERE name = ?"
_SET = "INSERT OR REPLACE INTO livingai_marks (name, value) VALUES (?, ?)"
_KEEP = "INSERT OR IGNORE INTO livingai_marks (name, value) VALUES (?, ?)"
_REMOVE = "DELETE FROM livingai_marks WHERE name = ?"


def marks(file: DatabaseFile) -> dict[str, str]:
    """All notes by name."""
    if not file.read(_IS_THERE, ()):
        return {}
    return {str(name): str(value) for name, value in file.read(_ALL, ())}


def mark(file: DatabaseFile, name: str, value: str | None, *, keep: bool) -> None:
    """Set a note, or remove it; ``keep``: the value that is there stays."""

    def work(connection: apsw.Connection) -> None:
        connection.execute(TABLE)
        if value is None:
            connection.execute(_REMOVE, (name,))
        else:
            connection.execute(_KEEP if keep else _SET, (name, value))

    file.transaction(work)


def peek(connection: apsw.Connection, name: str) -> str:
    """One note, seen through a connection of the caller's; "" if there is none."""
    if not connection.execute(_IS_THERE).fetchall():
        return ""
    return "".join(str(value) for (value,) in connection.execute(_ONE, (name,)))
