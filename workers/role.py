"""What the roles of a store worker (writer, reader, housekeeper) share: the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from livingai.errors import LivingAIError
from livingai.stores.base import Store


class Role:
    """A store and the verbs of a role, ``do_...``; each returns plain values for a reply."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened = False

    def _open(self) -> Store:
        if not self._opened:
            self._store.open()
            self._opened = True
        return self._store

    def handle(self, verb: str, arguments: list[Any]) -> Any:
        """Do one request. Raises a LivingAIError for the caller, or what the driver raises."""
        method: Callable[..., Any] = getattr(self, f"do_{verb}")
        try:
            return method(*arguments)
        except (LivingAIError, KeyboardInterrupt):
            raise
        except Exception:
            self._opened = False  # an unknown error: start from a fresh connection
            with contextlib.suppress(Exception):
                self._store.close()
            raise

    def close(self) -> None:
        """Disconnect from the store."""
        self._store.close()
