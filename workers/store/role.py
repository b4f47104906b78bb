"""What the roles of a store worker (writer, reader, housekeeper) share: the store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import (
    CorruptRecordError,
    LivingAIError,
    ServiceError,
    StoreError,
    StoreUnavailableError,
)
from livingai.queue.directory import StateDirectory
from livingai.stores.base import Store
from livingai.stores.belonging import recognise


class Role:
    """A store and the verbs of a role, ``do_...``; each returns plain values for a reply."""

    def __init__(self, store: Store, directory: StateDirectory | None = None) -> None:
        """With a ``directory``, nothing is done on a store that it does not belong to."""
        self._store = store
        self._directory = directory
        self._opened = False
        #: The number of the database that the directory has accepted: others may have been at the
        #: store's place before (``Store.replacements``).
        self._known = 0

    @classmethod
    def of(cls, config: ServiceConfig) -> Role:
        """The role, as a service's configuration says."""
        return cls(config.spec().build(), StateDirectory(config.directory))

    def _open(self) -> Store:
        if not self._opened:
            self._store.open()
            self._recognise(strictly=True)
            self._opened = True
        elif self._store.replacements != self._known:
            self._recognise(strictly=False)
        return self._store

    def _recognise(self, *, strictly: bool) -> None:
        """Raise a StoreError that passes by itself or once a person has settled it, whatever is
        wrong: as any other error, the batch that is to be written would be taken for its cause, and
        quarantined in the end.
        """
        self._known = -1  # until the directory has accepted it: what is refused stays refused
        if self._directory is None:
            self._known = self._store.replacements
            return
        try:
            self._known = recognise(self._store, self._directory, strictly=strictly)
        except CorruptRecordError as error:
            raise StoreUnavailableError(
                f"the marks of {self._store.url} (livingai_marks) are damaged, and nothing is read "
                "or stored before they are repaired: remove what is damaged; those named "
                f"directory:... are made anew ({error})"
            ) from error
        except StoreError:
            raise
        except OSError as error:  # also a DirectoryError or a JournalError
            text = str(error)
            if not isinstance(error, LivingAIError):
                text = f"{self._directory.path} cannot be looked through: {error}"
            raise StoreUnavailableError(text) from error

    def handle(self, verb: str, arguments: list[Any]) -> Any:
        """Do one request. Raises a LivingAIError for the caller, or what the driver raises.

        Raises:
            ServiceError: this role has no such verb.
        """
        method: Callable[..., Any] | None = getattr(self, f"do_{verb}", None)
        if method is None:
            raise ServiceError(f"a {type(self).__name__} does not know the request {verb!r:.100}")
        try:
            answer = method(*arguments)
            if self._opened:
                self._open()
            return answer
        except StoreUnavailableError:
            self._known = -1  # it may come back as another one: a server that has lost its data
            raise
        except (LivingAIError, KeyboardInterrupt):
            raise
        except Exception:
            self._opened = False  # an unknown error: start from a fresh connection
            with contextlib.suppress(Exception):
                self._store.close()
            raise

    def idle(self) -> None:
        """There is nothing to do: close files that were removed. An idle reader that keeps the log
        of a removed database open would be in the way of the writer."""
        if self._opened:
            with contextlib.suppress(LivingAIError):
                self._store.let_go()

    def close(self) -> None:
        """Disconnect from the store."""
        self._store.close()
