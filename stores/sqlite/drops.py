"""Up to which version nodes of an execution were removed from an SQLite store.

The table is made when it is first needed and is no part of the schema's version, so a livingai that
does not know it can use the file as before. It may then leave a line behind when it deletes an
execution; later writes have later versions, so that line says nothing about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livingai.stores.checked import rows_of, whole
from livingai.stores.sqlite.file import DatabaseFile

if TYPE_CHECKING:
    import apsw

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS livingai_drops (
    execution_id  TEXT NOT NULL PRIMARY KEY,
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL
) WITHOUT ROWID
"""
_IS_THERE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'livingai_drops'"
_NOTE: Final = """
INSERT INTO livingai_drops (execution_id, epoch, seq) VALUES (?, ?, ?)
ON CONFLICT (execution_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
WHERE (epoch, seq) < (excluded.epoch, excluded.seq)
"""
_ONE: Final = "SELECT epoch, seq FROM livingai_drops WHERE execution_id = ?"
_FORGET: Final = "DELETE FROM livingai_drops WHERE execution_id = ?"


def note_drop(connection: apsw.Connection, execution_id: str, version: tuple[int, int]) -> None:
    """Inside a transaction: nodes up to this version were removed."""
    connection.execute(_TABLE)
    connection.execute(_NOTE, (execution_id, *version))


def forget_drops(connection: apsw.Connection, execution_id: str) -> None:
    """Inside a transaction: the execution goes."""
    if connection.execute(_IS_THERE).fetchone():
        connection.execute(_FORGET, (execution_id,))


def dropped_upto(file: DatabaseFile, execution_id: str) -> tuple[int, int] | None:
    """The newest version of all nodes that were removed; None: none was."""
    if not file.read(_IS_THERE, ()):
        return None
    with rows_of(execution_id):
        for epoch, seq in file.read(_ONE, (execution_id,)):
            return whole(epoch, "epoch"), whole(seq, "seq")
    return None
