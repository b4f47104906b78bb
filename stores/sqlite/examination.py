"""Whether an SQLite file is sound, found out without a change to it.

Other programs may have tables in the file, with functions and collations that are not known here:
a check of the whole file would fail for them. So only our own tables are looked through.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from livingai.stores.sqlite.errors import damaged
from livingai.stores.sqlite.schema import TABLES

if TYPE_CHECKING:
    import apsw


def look_through(path: str, busy_timeout_ms: int) -> None:
    """Read every page of our tables and their indexes, by a connection of its own that has none of
    them in memory and cannot write. Raises SQLite's own errors, too.

    Raises:
        StoreDamagedError: something is wrong with them.
    """
    import apsw  # noqa: PLC0415 - no driver before the store is used

    with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        # As the last connection it would copy the log into the file.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(busy_timeout_ms)
        try:
            tables = {
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table'"
                )
            }
            for table in TABLES:
                if table in tables:
                    _check(connection, path, table)
        except UnicodeDecodeError as error:
            raise damaged(path, f"a text of its schema is not UTF-8 ({error})") from error


def _check(connection: apsw.Connection, path: str, table: str) -> None:
    for (found,) in connection.execute(f"PRAGMA quick_check('{table}')"):
        if found != "ok":
            raise damaged(path, found)
