"""Do a database and a state directory belong together?

They are compared by an identity that is written in both, not by their paths. The database has it
among its marks: a random number, made by the first service that opens the database. The manifest of
a state directory has it as ``store_id``. The store's URL (``store``) and the directory's path
(``directory``) in the manifest are where both were when it was written: hints.

Two functions compare:

* :func:`enter`, in an **agent** that joins and before a service is started. It connects to no
  server: it compares URLs, and for an SQLite file the identity that checking the file shows anyway.
  No record is accepted before it has passed, because a journal does not say which database its
  records are for.
* :func:`recognise`, in the **service's processes**, each time they open the database, before they
  read or commit anything. It compares the identities.

===================================================  ==============================================
what they find                                       what they do
===================================================  ==============================================
no identity in the manifest (new, or older)          the service writes it
same identity, same place                            go on
same identity, another place, both moved or copied   go on, and write the new place down
same identity, another place, the old one is still   mismatch: it is the other one's directory
there and the directory has not come along
same place, another database or none, and records    mismatch: what waits was accepted for another
were left                                            database
same place, another database or none, nothing left   go on with the new one
another place, another database                      mismatch, even if nothing waits
another place, no file there yet, nothing left, and  go on with the new one
the directory lies beside it as beside the old one
a server under another URL                           mismatch: an agent cannot compare identities
the database keeps no marks, or this user may not    go on if the place is the same, even if records
read them                                            were left: `livingai relocate` cannot compare
                                                     identities either, so no command could help
===================================================  ==============================================

*Left* are accepted records without an outcome whose owner has ended; an owner that is alive goes on
writing here. What a mismatch tells the user is in :mod:`livingai.stores.mismatches`; that records
were left in other directories is found out in :mod:`livingai.stores.elsewhere`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator

from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    DirectoryMismatchError,
    StoreError,
    StoreMismatchError,
    StoreMissingError,
    StoreUnavailableError,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive
from livingai.queue.waiting import waiting_records
from livingai.stores.base import IDENTITY, Store
from livingai.stores.elsewhere import RELOCATING, note_directory, refuse_while_left
from livingai.stores.mismatches import a_copy, another_stores, replaced
from livingai.stores.opening import open_store
from livingai.stores.whereabouts import leads_to, place_of, same_file, store_url_here

_log = logging.getLogger("livingai")


def enter(store: Store, directory: StateDirectory) -> str:
    """Make the state directory for a store, or check that it is the store's. Returns the name by
    which an agent greets the directory's service: identity and URL, or the URL alone while the
    manifest has no identity.

    Raises:
        DirectoryMismatchError: it is another store's, or records wait in it for another database.
        DirectoryError, DiskFullError: see :meth:`StateDirectory.ensure`.
        StoreError: see :meth:`Store.validate`.
    """
    while not _entered(store, directory, directory.ensure(store.url)):
        _log.info("%s was changed while it was compared with %s", directory.path, store.url)
    return _greeting(store, directory.manifest())


def enter_again(store: Store, directory: StateDirectory, name: str) -> str:
    """As :func:`enter`, for an agent that has entered under ``name``; quick if the directory is
    still the same store's, or its service has only noted the identity since."""
    manifest = directory.manifest()
    greeting = _greeting(store, manifest)
    if manifest.get("store") == store.url and name in (greeting, store.url):
        return greeting
    return enter(store, directory)


def _greeting(store: Store, manifest: dict[str, object]) -> str:
    if known := manifest.get(IDENTITY):
        return f"{known} {store.url}"  # one of them stays if the database or its URL is changed
    return str(manifest.get("store"))


def _entered(store: Store, directory: StateDirectory, manifest: dict[str, object]) -> bool:
    """Compare once. False: another process has changed the manifest meanwhile."""
    url = str(manifest.get("store"))
    if url == store.url:
        return _check_place(store, directory, manifest)
    if same_file(store.place, place_of(url)):
        return True
    if not _came_along(store, directory, manifest):
        raise DirectoryMismatchError(another_stores(store, directory, url))
    here = {"store": store.url, "directory": directory.path}
    if not directory.change_manifest(here, over=manifest):
        return False
    _log.info("%s has moved with its database, from %s to %s", directory.path, url, store.url)
    return True


def _check_place(store: Store, directory: StateDirectory, manifest: dict[str, object]) -> bool:
    """The manifest names the store's file: compare the identity of the database in it. If that is
    another one and no record was left, the manifest is given the new identity. False: another
    process has changed the manifest meanwhile."""
    known, place = manifest.get(IDENTITY), store.place
    if not known or place is None:
        return True
    exists = os.path.exists(place)
    found = store.glance() if exists else ""
    if exists and found not in (None, known):
        store.validate()  # that look may be older than the manifest: look again
        found = store.glance()
    if found is None or found == known:
        return True
    if left := waiting_records(directory, of_dead_owners=True):
        raise DirectoryMismatchError(replaced(store, directory, left))
    if owner_alive(directory.lock):
        return True  # the service writes it when it opens the database
    return directory.change_manifest({IDENTITY: found or None}, over=manifest)


def _came_along(store: Store, directory: StateDirectory, manifest: dict[str, object]) -> bool:
    """Whether a directory whose manifest names another place was moved or copied here together
    with the database."""
    if store.place is None:
        return False  # a server, which an agent does not connect to
    known, was, lay = manifest.get(IDENTITY), place_of(str(manifest.get("store"))), None
    if was is None:
        return False
    if isinstance(manifest.get("directory"), str):
        lay = os.path.relpath(os.path.realpath(str(manifest["directory"])), os.path.dirname(was))
    here = os.path.relpath(directory.path, os.path.dirname(store.place))
    usual = os.path.basename(was) == os.path.basename(store.place) and (
        directory.path == store.default_directory()
    )
    together = (lay == here and os.path.basename(was) == os.path.basename(store.place)) or usual
    gone = not os.path.exists(was)
    exists = os.path.exists(store.place)
    found = store.glance() if exists else ""
    if known and found == known:
        return together or gone
    if known and exists and found is not None:
        return False
    if known and not exists and waiting_records(directory, of_dead_owners=True):
        return False
    # No identity to compare: written by an older livingai, or no service has come so far.
    return together and (gone or lay is not None or not waiting_records(directory))


def refuse_another(store: Store, directory: StateDirectory) -> None:
    """Raise unless ``store`` is the directory's. Nothing is written down, and a file is compared
    before it is opened. Where there is no identity to compare, it is the store that the manifest
    names, or the one at its place if both were moved together.

    Raises:
        DirectoryMismatchError: it is another store.
        StoreError: it is not there, or cannot be read.
    """
    manifest = directory.manifest()
    known, url = manifest.get(IDENTITY), str(manifest.get("store"))
    if (found := _identity_now(store)) is not None and known:
        if found != known and leads_to(url, store):
            raise StoreMismatchError(replaced(store, directory, waiting_records(directory)))
        if found != known:
            raise StoreMismatchError(another_stores(store, directory, url))
    elif not leads_to(url, store) and not leads_to(store_url_here(directory), store):
        raise DirectoryMismatchError(another_stores(store, directory, url))


def refuse_copy(store: Store, directory: StateDirectory) -> None:
    """Raise if ``store`` is a file with the directory's identity, and the database at the place
    that the manifest leads to has it, too: one of them is a copy of the other (unless directory
    and database were copied together). For a caller that writes; :func:`refuse_another` is called
    before.

    Raises:
        StoreMismatchError: it is the copy.
    """
    manifest = directory.manifest()
    known, url = manifest.get(IDENTITY), store_url_here(directory)
    if not known or store.place is None or leads_to(url, store):
        return
    if url == manifest.get("store") and _came_along(store, directory, manifest):
        return  # both are copies
    try:
        there = _identity_now(open_store(url))
    except (StoreError, ConfigurationError):
        return  # it is gone, or damaged
    if there == known:
        raise StoreMismatchError(a_copy(store, directory, url))


def _identity_now(store: Store) -> str | None:
    """The identity of a store that is not open; "": it has none, None: it is not known."""
    if store.place is None:
        with store:
            marks = store.marks()
        return None if marks is None else marks.get(IDENTITY, "")
    if not os.path.exists(store.place):
        raise StoreMissingError(f"there is no database {store.place}")
    store.validate()
    return store.glance()


def recognise(store: Store, directory: StateDirectory, *, strictly: bool = True) -> int:
    """Compare the identity of the open ``store`` with the one in the manifest, and write it there
    if it is new. Not ``strictly``: the database was replaced while its service ran, which goes on
    with the new one even if records were left. Returns the number of :attr:`~Store.replacements` at
    which the store was compared.

    Raises:
        StoreMismatchError: records wait in the directory for another database.
        RecordsLeftError: records that must be stored first were left in another directory.
        StoreUnavailableError: try again.
    """
    while not _recognised(store, directory, known := store.replacements, strictly=strictly):
        _log.info("%s or the manifest was changed while they were compared", store.url)
    return known


def _recognised(store: Store, directory: StateDirectory, known_as: int, *, strictly: bool) -> bool:
    """Compare once. False: the database was replaced or the manifest changed meanwhile, and nothing
    was written into the manifest.

    The identity of a database that is no longer there is never written over that of its successor:
    this database is still there after the manifest was read, so a process that knows the successor
    changes the manifest later, and then this one is not written.
    """
    manifest = directory.manifest()
    marks: dict[str, str] | None = None
    with _if_permitted(store):
        marks = store.marks()
    if marks is None:
        url = str(manifest.get("store"))
        if not leads_to(url, store):
            raise StoreMismatchError(another_stores(store, directory, url))
        return True
    identity = marks.get(IDENTITY)
    _compare(store, directory, manifest, identity, strictly=strictly)
    identity = identity or _make_identity(store)
    if identity is None:
        return True
    with _if_permitted(store):
        note_directory(store, directory, marks)
    store.let_go()
    store.open()
    if store.replacements != known_as:
        return False
    noted = {IDENTITY: identity, "store": store.url, "directory": directory.path}
    if not directory.change_manifest(noted, over=manifest):
        return False
    if not manifest.get(RELOCATING):
        refuse_while_left(store, directory, marks)
    return True


def _make_identity(store: Store) -> str | None:
    """The identity of the open ``store``, made unless another process was faster; None if this user
    may not."""
    identity = None
    with _if_permitted(store):
        store.mark(IDENTITY, secrets.token_hex(16), keep=True)
        identity = (store.marks() or {})[IDENTITY]
    return identity


@contextlib.contextmanager
def _if_permitted(store: Store) -> Iterator[None]:
    """Go on behind the block where this user may not read, make or change the marks."""
    try:
        yield
    except (StoreUnavailableError, CorruptRecordError):
        raise
    except StoreError as error:
        _log.info("the marks of %s: %s", store.url, error)


def _compare(
    store: Store,
    directory: StateDirectory,
    manifest: dict[str, object],
    identity: str | None,
    *,
    strictly: bool,
) -> None:
    """Raise StoreMismatchError if the directory is not to go on with the database that has this
    ``identity`` (None: it has none yet)."""
    known, url = manifest.get(IDENTITY), str(manifest.get("store"))
    if not known or identity == known:
        return
    if not leads_to(url, store):
        raise StoreMismatchError(another_stores(store, directory, url))
    if strictly and (left := waiting_records(directory, of_dead_owners=True)):
        raise StoreMismatchError(replaced(store, directory, left))
    _log.warning(
        "%s is another database than before; %s belongs to it now", store.url, directory.path
    )
