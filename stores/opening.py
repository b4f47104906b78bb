"""Opening a store by its URL, so that switching stores is one string."""

from __future__ import annotations

from livingai.errors import ConfigurationError
from livingai.stores.base import Store


def open_store(url: str) -> Store:
    """The store that ``url`` names: ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or a
    plain file path. Nothing is connected to yet.

    Raises:
        ConfigurationError: no store has that scheme.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "sqlite":
        from livingai.stores.sqlite import SQLiteStore  # noqa: PLC0415 - only when it is used

        path = url if not separator else rest.removeprefix("/")
        if not path:
            raise ConfigurationError("a SQLite URL names a file, such as sqlite:///agent.db")
        return SQLiteStore(path)
    raise ConfigurationError(f"no store has the scheme {scheme!r}; use sqlite:///FILE")
