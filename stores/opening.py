"""Opening a store by its URL, so that switching stores is one string."""

from __future__ import annotations

import importlib

from livingai.errors import ConfigurationError
from livingai.stores.base import Store

#: Module and class by URL scheme; a driver is imported only when its store is used.
_SCHEMES = {
    "redis": ("livingai.stores.redis.store", "RedisStore"),
    "rediss": ("livingai.stores.redis.store", "RedisStore"),
    "unix": ("livingai.stores.redis.store", "RedisStore"),
    "redis+cluster": ("livingai.stores.redis.store", "RedisStore"),
    "rediss+cluster": ("livingai.stores.redis.store", "RedisStore"),
    "redis+sentinel": ("livingai.stores.redis.store", "RedisStore"),
    "rediss+sentinel": ("livingai.stores.redis.store", "RedisStore"),
    "postgres": ("livingai.stores.postgres.store", "PostgresStore"),
    "postgresql": ("livingai.stores.postgres.store", "PostgresStore"),
}


def open_store(url: str) -> Store:
    """The store that ``url`` names. Nothing is connected to yet.

    =================================  ============================================
    URL                                store
    =================================  ============================================
    ``agent.db``, ``sqlite:///a.db``   SQLite, relative path
    ``sqlite:////var/lib/a.db``        SQLite, absolute path
    ``redis://…``, ``rediss://…``,     Redis or Valkey; ``redis+cluster://…`` for a
    ``unix://…``                       cluster, ``redis+sentinel://…`` for sentinels
    ``postgresql://…``                 PostgreSQL
    ``tiered:HOT|COLD``                two of the above, hot in front of cold
    =================================  ============================================

    Raises:
        ConfigurationError: no store has that scheme, or the URL is not complete.
    """
    if url.startswith("tiered:"):
        from livingai.stores.tiered import TieredStore  # noqa: PLC0415 - only when it is used

        hot, separator, cold = url.removeprefix("tiered:").partition("|")
        if not separator or not hot or not cold:
            raise ConfigurationError("a tiered store is written tiered:HOT_URL|COLD_URL")
        return TieredStore(open_store(hot), open_store(cold))
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "sqlite":
        from livingai.stores.sqlite.store import SQLiteStore  # noqa: PLC0415 - only when it is used

        path = url if not separator else rest.removeprefix("/")
        if separator and "?" in path:
            raise ConfigurationError(
                f"a SQLite URL takes no parameters ({path.partition('?')[2]}); give them to the "
                "store: SQLiteStore(path, busy_timeout_ms=...)"
            )
        if not path:
            raise ConfigurationError("a SQLite URL names a file, such as sqlite:///agent.db")
        return SQLiteStore(path)
    if scheme not in _SCHEMES:
        known = ", ".join(["sqlite", *sorted(_SCHEMES), "tiered:"])
        raise ConfigurationError(f"no store has the scheme {scheme!r}; known are {known}")
    module, name = _SCHEMES[scheme]
    store: Store = getattr(importlib.import_module(module), name)(url)
    return store
