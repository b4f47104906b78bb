"""Notes about a PostgreSQL schema itself: its identity, and the state directories on it.

The table is made when it is first needed and is no part of the schema's version, so a livingai that
does not know it can use the schema as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livingai.stores.postgres.schema import quoted

if TYPE_CHECKING:
    from livingai.stores.postgres.connection import Session

TABLE: Final = """
CREATE TABLE IF NOT EXISTS {s}.livingai_marks (
    name   text COLLATE "C" PRIMARY KEY,
    value  text NOT NULL
)
"""
_SET = """
INSERT INTO {s}.livingai_marks (name, value) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_KEEP = """
INSERT INTO {s}.livingai_marks (name, value) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING
"""


def marks(session: Session, schema: str) -> dict[str, str]:
    """All notes by name."""
    name = f"{quoted(schema)}.livingai_marks"
    if session.read("SELECT to_regclass(%s) IS NULL", (name,))[0][0]:
        return {}
    return {str(key): str(value) for key, value in session.read(f"SELECT name, value FROM {name}")}


def mark(session: Session, schema: str, name: str, value: str | None, *, keep: bool) -> None:
    """Set a note, or remove it; ``keep``: the value that is there stays."""
    s = quoted(schema)
    with session.transaction() as run:
        if not run("SELECT to_regclass(%s) IS NOT NULL", (f"{s}.livingai_marks",))[0][0]:
            # Two that make it at once would disturb each other.
            lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
            run(lock, (f"livingai {schema}",))
            run(TABLE.format(s=s))
        if value is None:
            run(f"DELETE FROM {s}.livingai_marks WHERE name = %s", (name,))
        else:
            run((_KEEP if keep else _SET).format(s=s), (name, value))
