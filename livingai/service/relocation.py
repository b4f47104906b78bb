"""Bringing state directories to a database that was moved, so that what waits in them is stored.

A state directory's manifest names its store by URL and identity. After the database, the directory
or the server's name has changed, :func:`find_misplaced` lists the directories that belong to a
store, and :func:`bring` rewrites one manifest and has its waiting records stored.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from livingai.errors import (
    DirectoryError,
    LivingAIError,
    RecordsLeftError,
    ServiceUnavailableError,
    StoreMismatchError,
)
from livingai.failpoint import failpoint
from livingai.protocol.ask import ask_service
from livingai.protocol.verbs import DRAIN
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive
from livingai.queue.manifest import MANIFEST
from livingai.queue.owners import agents_alive
from livingai.queue.waiting import waiting_records
from livingai.service.service import Service
from livingai.stores.base import IDENTITY, Store
from livingai.stores.elsewhere import RELOCATING, left_behind
from livingai.stores.whereabouts import default_directories, leads_to

#: Seconds within which at least one more record must be stored.
_PATIENCE_S = 60.0
#: Seconds within which a running service reads the changed manifest.
_LOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class Misplaced:
    """A state directory that can be brought to a store."""

    directory: StateDirectory
    #: The store that the directory's manifest names now.
    url: str
    #: The identity of the database at the new place; None if this store keeps none.
    identity: str | None
    #: A service uses the directory for another store, or an agent that has saved something for
    #: another store; they must end first. A journal does not say which store it is for.
    occupied: bool
    #: The manifest has the identity of another database; or it has none, and records wait that were
    #: accepted for another URL.
    foreign: bool
    #: The manifest that this was found out from.
    manifest: Mapping[str, Any]

    @property
    def path(self) -> str:
        """The directory's real path."""
        return self.directory.path

    def waiting(self) -> int:
        """How many accepted records wait there."""
        return waiting_records(self.directory)


@dataclass(frozen=True, slots=True)
class Brought:
    """What :func:`bring` did with one directory."""

    path: str
    #: Accepted records that were stored, and that still wait.
    stored: int
    waiting: int
    #: Why records still wait; None if storing them did not fail.
    error: LivingAIError | None


def find_misplaced(store: Store, directory: str | None = None) -> list[Misplaced]:
    """The state directories of ``store`` (or just the one at ``directory``), oldest first; empty if
    none is known on this machine. A database without an identity gets one.

    Raises:
        DirectoryError: a manifest cannot be read.
        StoreError: the database cannot be read.
    """
    found = _directories(store, directory)
    if not found:
        return []
    identity = _identity(store)
    return [_misplaced(store, one, identity) for one in found]


def bring(store: Store, misplaced: Misplaced, reopen: Callable[[], Store]) -> Brought:
    """Write ``store`` into the directory's manifest and have stored what waits there, by the
    directory's service or by one that runs just for this. ``reopen`` opens the store anew.

    Raises:
        DirectoryError: the manifest cannot be written, or the directory is used for another store
            by now; it is left as it was.
    """
    directory, error = misplaced.directory, None
    _take(store, misplaced)
    failpoint("relocate.after_manifest")
    before = misplaced.waiting()
    if before:
        error = _store_what_waits(reopen(), directory)
    failpoint("relocate.before_done")
    directory.change_manifest({RELOCATING: None})
    still = misplaced.waiting()
    return Brought(directory.path, before - still, still, error)


def _take(store: Store, misplaced: Misplaced) -> None:
    """Write ``store`` into the manifest, unless the directory is no longer as it was found.

    An agent makes its journal and then reads the manifest again (``DirectoryHandle.open_journal``);
    here the manifest is written and then journals are looked for. So one of the two sees the other.
    """
    directory, seen = misplaced.directory, misplaced
    mine: dict[str, str | None] = {
        "store": store.url,
        "directory": directory.path,
        IDENTITY: misplaced.identity,
        RELOCATING: None if directory.path in default_directories(store) else "yes",
    }
    while not directory.change_manifest(mine, over=seen.manifest):
        seen = _misplaced(store, directory, misplaced.identity)
        if seen.occupied or (seen.foreign and not misplaced.foreign) or seen.url != misplaced.url:
            raise _used_meanwhile(seen)
    if leads_to(seen.url, store):
        return
    # Records of the other store that came since it was looked at, and that nobody was asked about.
    unasked = not seen.manifest.get(IDENTITY) and not misplaced.foreign and _waits(directory)
    if not unasked and not agents_alive(directory):
        return
    taken = directory.manifest()
    if all(taken.get(key) == value for key, value in mine.items()):
        directory.change_manifest({key: seen.manifest.get(key) for key in mine}, over=taken)
    raise _used_meanwhile(seen)


def _waits(directory: StateDirectory) -> bool:
    return waiting_records(directory) > 0


def _used_meanwhile(misplaced: Misplaced) -> DirectoryError:
    return DirectoryError(
        f"{misplaced.path} was taken into use for {misplaced.url} meanwhile, so it stays there; "
        f"end the agents, run `livingai stop {misplaced.path}` and try again"
    )


def _directories(store: Store, named: str | None) -> list[StateDirectory]:
    """What was left behind comes first, because it is older."""
    if named is not None:
        directory = StateDirectory(named)
        directory.manifest()  # raises before anything is written
        return [directory]
    usual = StateDirectory(default_directories(store)[0]) if default_directories(store) else None
    found = {left.directory.path: left.directory for left in left_behind(store, usual)}
    for path in reversed(default_directories(store)):
        if os.path.lexists(os.path.join(path, MANIFEST)):
            found.setdefault(StateDirectory(path).path, StateDirectory(path))
    return list(found.values())


def _identity(store: Store) -> str | None:
    """The database's identity, made if it has none; None: this store keeps none."""
    if store.marks() is None:
        return None
    store.mark(IDENTITY, secrets.token_hex(16), keep=True)
    return (store.marks() or {})[IDENTITY]


def _misplaced(store: Store, directory: StateDirectory, identity: str | None) -> Misplaced:
    manifest = directory.manifest()
    url, known = str(manifest.get("store")), manifest.get(IDENTITY)
    elsewhere = not leads_to(url, store)
    occupied = elsewhere and (owner_alive(directory.lock) or bool(agents_alive(directory)))
    foreign = known != identity if known else elsewhere and waiting_records(directory) > 0
    return Misplaced(directory, url, identity, occupied, foreign, manifest)


def _store_what_waits(store: Store, directory: StateDirectory) -> LivingAIError | None:
    """Have the directory's records stored, by its service if one runs; why not all were."""
    try:
        if owner_alive(directory.lock):
            _drain(store, directory)
        else:
            with Service(store, directory.path):
                _drain(store, directory)
    except LivingAIError as error:
        return error
    return None


def _drain(store: Store, directory: StateDirectory) -> None:
    """Wait for the service for as long as it stores at least one record per ``_PATIENCE_S``."""
    look_until = time.monotonic() + _LOOK_S
    while True:
        before = waiting_records(directory)
        try:
            ask_service(directory, store.url, DRAIN, timeout_s=_PATIENCE_S)
        except (StoreMismatchError, RecordsLeftError):  # it may not have read the manifest yet
            if time.monotonic() > look_until:
                raise
            time.sleep(0.1)
        except ServiceUnavailableError:
            if waiting_records(directory) >= before:
                raise
        else:
            return
