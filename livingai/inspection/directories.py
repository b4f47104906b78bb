"""State directories seen from outside: which one a name means, who owns it, and what waits in it.

Nothing here needs a running service or changes a file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from livingai.errors import LivingAIError
from livingai.protocol.ask import ask_service
from livingai.protocol.verbs import Answer, Verb
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive, owner_identity, owner_pid
from livingai.queue.manifest import MANIFEST
from livingai.queue.waiting import waiting_records
from livingai.service.report import ServiceReport, read_report
from livingai.stores.base import Store
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.whereabouts import store_url_here


class NothingThereError(LivingAIError):
    """A name that a person gave leads to no state directory or no database; the message says what
    to name instead."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The service process that holds a state directory's lock."""

    #: Process id of the dispatcher; None if its lock file does not say.
    pid: int | None


@dataclass(frozen=True, slots=True)
class DirectoryView:
    """A state directory and the store that its manifest names."""

    directory: StateDirectory
    #: The store's URL without credentials, as the manifest has it.
    store_url: str

    @property
    def path(self) -> str:
        """The directory's real path."""
        return self.directory.path

    def owner(self) -> Owner | None:
        """The process that holds the service's lock; None if no service runs.

        It may run and yet not answer: stopped by a signal, starting, or ending.
        """
        if not owner_alive(self.directory.lock):
            return None
        return Owner(owner_identity(self.directory.lock).get("pid"))

    def supervisor(self) -> int | None:
        """Process id of the service's supervisor, as it is known here; 0 if it has none here (it
        runs in another container), None if there is no service."""
        return owner_pid(self.directory.supervisor_lock)

    def journals(self) -> int:
        """How many journals there are."""
        return len(self.directory.journal_paths())

    def waiting(self) -> int:
        """How many accepted records no store has yet; a journal that cannot be read counts as one.

        Raises:
            OSError: the directory cannot be read.
        """
        return waiting_records(self.directory)

    def report(self) -> ServiceReport:
        """What the last service wrote about itself; an empty report if there is none."""
        return read_report(self.path)

    def ask(self, verb: Verb[Answer], *arguments: Any, timeout_s: float) -> Answer:
        """Ask the running service one thing.

        Raises:
            ServiceUnavailableError: no service runs, or it does not answer within ``timeout_s``.
            LivingAIError: the service's answer is an error.
        """
        return ask_service(self.directory, self.store_url, verb, *arguments, timeout_s=timeout_s)

    def open_store(self) -> Store:
        """The store that the manifest names, by a URL that may bring credentials.

        Raises:
            DirectoryError: the manifest cannot be read.
        """
        return open_store(store_url_here(self.directory))


def directory_view(path: str, store_url: str) -> DirectoryView:
    """The state directory at this path, whatever its manifest says."""
    return DirectoryView(StateDirectory(path), store_url)


def is_directory(where: str) -> bool:
    """Whether ``where`` is the path of a state directory (it has a manifest)."""
    return os.path.isfile(os.path.join(where, MANIFEST))


def find_directory(where: str, directory: str | None = None) -> DirectoryView:
    """The state directory that ``where`` means: its path, or the path or URL of its store, which is
    used with ``directory`` unless that is None.

    Raises:
        NothingThereError: there is no such directory or database.
        DirectoryError: its manifest cannot be read.
    """
    if is_directory(where):
        found = StateDirectory(where)
    else:
        _refuse_folder(where)
        # The database need not exist: what was saved waits in the directory until it does.
        store = open_store(where)
        found = StateDirectory(directory or store.default_directory())
        if not os.path.exists(os.path.join(found.path, MANIFEST)):
            existing_store(where)
            named = where if isinstance(store, SQLiteStore) else store.url  # without credentials
            raise NothingThereError(
                f"{named} has no state directory here ({found.path} would be it): no agent on "
                "this machine has used it, or one did with directory=...; then name that directory"
            )
    return DirectoryView(found, str(found.manifest().get("store")))


def default_directory(store: Store) -> DirectoryView:
    """The state directory that agents of ``store`` use unless they name another; it need not
    exist."""
    return DirectoryView(StateDirectory(store.default_directory()), store.url)


def existing_store(where: str) -> Store:
    """The store that ``where`` names. Nothing is connected to yet.

    Raises:
        NothingThereError: it is a SQLite file that does not exist, or a folder.
        ConfigurationError: no store has such a URL.
    """
    _refuse_folder(where)
    store = open_store(where)
    if isinstance(store, SQLiteStore) and not os.path.exists(store.path):
        raise NothingThereError(f"there is no database {store.path}")
    return store


def _refuse_folder(where: str) -> None:
    if os.path.isdir(where):
        raise NothingThereError(
            f"{where} is no livingai state directory (it has no {MANIFEST}); name one, which is "
            "<database>-livingai unless directory= said otherwise, or the store's file or URL"
        )
