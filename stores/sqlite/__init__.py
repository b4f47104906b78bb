"""SQLite: the embedded store, one file that one process at a time writes to."""

from livingai.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
