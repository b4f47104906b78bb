"""Do a database and a state directory belong together?

They know each other by an identity that is written in both, not by their paths. The database has a
random one among its marks, made by the first service that opens it; the manifest of a state
directory names it (``store_id``). The path or URL beside it (``store``) and the directory's own
path (``directory``) say where both were when that was written: hints.

Who looks, and when:

* **An agent** that joins (:func:`enter`) knows what the file system says, and for an SQLite file
  the identity that its check of the file sees anyway. It connects to no server. It must be sure
  before it accepts a record, because a journal cannot say which database it is for.
* **The service's processes** (:func:`recognise`) compare the identities each time they open the
  database, before they read or commit anything.

===================================================  ==============================================
what they find                                       what they do
===================================================  ==============================================
no identity in the manifest (new, or older)          the service writes it
same identity, same place                            go on
same identity, another place, both moved or copied   go on, and write the new place down
same identity, another place, the old one is still   mismatch: it is the other one's directory
there and the directory has not come along
same place, another database or none, and somebody   mismatch: what waits was accepted for another
who has gone left accepted records                   database
same place, another database or none, nothing waits  go on with the new one
another place and another identity                   mismatch
===================================================  ==============================================

"Left" are records without an outcome whose process has gone: who lives will go on writing here. A
mismatch never advises to leave them: ``livingai relocate`` has them stored where the user says.

A service also notes its directory in the database, and looks at those that are noted there
(:func:`look_elsewhere`): accepted records that wait in one of them are missing in what is read. If
the way to the database is gone from there (it was moved alone), no process would ever store them.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Iterator
from typing import Final

from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    DirectoryError,
    DirectoryMismatchError,
    LivingAIError,
    RecordsLeftError,
    StoreError,
    StoreMismatchError,
    StoreUnavailableError,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive
from livingai.queue.waiting import waiting_records
from livingai.stores.base import IDENTITY, Store
from livingai.stores.opening import open_store

_log = logging.getLogger("livingai")
#: Marks that name a state directory begin so; the value is the time of the note.
_DIRECTORY: Final = "directory:"
#: In a manifest: `livingai relocate` is storing what waits there; until it has, who opens the
#: database elsewhere would read less than was saved.
RELOCATING: Final = "relocating"
#: A database remembers so many directories, the ones that were used last.
_REMEMBERED: Final = 100
#: Seconds after which a directory that is in use is noted again.
_NOTE_EVERY_S: Final = 86_400


def enter(store: Store, directory: StateDirectory) -> str:
    """Make the state directory for a store, or check that it is the store's; the name by which the
    directory's service knows the store. See the module's text.

    Raises:
        DirectoryMismatchError: it is another's, or holds records that wait for another database.
        DirectoryError, DiskFullError: see :meth:`StateDirectory.ensure`.
    """
    manifest = directory.ensure(store.url)
    known, url = manifest.get(IDENTITY), str(manifest.get("store"))
    if url == store.url:
        if known and store.place is not None:
            _check_place(store, directory, str(known))
    elif not _same_file(store.place, place_of(url)):
        if not _came_along(store, directory, manifest):
            raise DirectoryMismatchError(_another(store, directory, url))
        directory.change_manifest({"store": store.url, "directory": directory.path})
        _log.info("%s has moved with its database, from %s to %s", directory.path, url, store.url)
    manifest = directory.manifest()
    if known := manifest.get(
        IDENTITY
    ):  # the database may be replaced later, or the URL written anew
        return f"{known} {store.url}"
    return str(manifest.get("store"))


def _check_place(store: Store, directory: StateDirectory, known: str) -> None:
    """Nothing has moved; is it the same file?"""
    place = str(store.place)
    found = store.glance() if os.path.exists(place) else ""
    if found is None or found == known:
        return
    if left := waiting_records(directory, of_dead_owners=True):
        raise DirectoryMismatchError(_replaced(directory, place, left))
    if not owner_alive(directory.lock):  # else that service will see for itself
        directory.change_manifest({IDENTITY: found or None})


def _came_along(store: Store, directory: StateDirectory, manifest: dict[str, object]) -> bool:
    """Whether a directory that was another place's has come here with the database."""
    if store.place is None:
        return False  # a server: its identity is not asked for from an agent
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


def recognise(store: Store, directory: StateDirectory, *, strictly: bool = True) -> int:
    """With the open ``store``: compare its identity with the directory's, which learns it if it has
    none. Not ``strictly``: the database was replaced while its service ran, which goes on with the
    new one. Which of the store's :attr:`~Store.replacements` the directory belongs to now.

    Raises:
        StoreMismatchError: the directory holds records that were accepted for another database.
        RecordsLeftError: see :func:`look_elsewhere`.
        StoreUnavailableError: try again.
    """
    while not _recognised(store, directory, known := store.replacements, strictly=strictly):
        _log.warning("%s was replaced while it was opened", store.url)
    return known


def _recognised(store: Store, directory: StateDirectory, known_as: int, *, strictly: bool) -> bool:
    """Compare once. False: the database was replaced meanwhile. Nothing was written down then:
    another role may have written what is newer."""

    def still_there() -> bool:
        store.let_go()
        store.open()
        return store.replacements == known_as

    try:
        marks = store.marks()
    except (StoreUnavailableError, CorruptRecordError):
        raise
    except StoreError as error:  # a user without the right to read or make the marks
        _log.info("%s keeps no identity: %s", store.url, error)
        marks = None
    manifest = directory.manifest()
    known, url = manifest.get(IDENTITY), str(manifest.get("store"))
    if marks is None:
        if not leads_to(url, store):
            raise StoreMismatchError(_another(store, directory, url))
        return True
    identity = marks.get(IDENTITY)
    if known and identity != known:
        left = waiting_records(directory, of_dead_owners=True) if strictly else 0
        if left:
            raise StoreMismatchError(_replaced(directory, store.place or store.url, left))
        _log.warning(
            "%s is another database than before; %s belongs to it now", store.url, directory.path
        )
    try:
        if identity is None:
            store.mark(IDENTITY, secrets.token_hex(16), keep=True)
            identity = (store.marks() or {})[IDENTITY]
        _note_directory(store, directory, marks)
    except (StoreUnavailableError, CorruptRecordError):
        raise
    except StoreError as error:
        _log.info("%s keeps no identity: %s", store.url, error)
        return True
    noted = {IDENTITY: identity, "store": store.url, "directory": directory.path}
    if not directory.change_manifest(noted, provided=still_there):
        return False
    if not manifest.get(RELOCATING):
        _refuse_if_lost(store, directory, marks)
    return True


def _refuse_if_lost(store: Store, directory: StateDirectory, marks: dict[str, str]) -> None:
    for other, left, lost in _left_elsewhere(store, directory, marks):
        if lost:
            raise RecordsLeftError(_moved_alone(store, other, left))


def look_elsewhere(store: Store, directory: StateDirectory) -> str:
    """With the open ``store``: what waits for it in other state directories of this machine, whose
    agents and service have gone; "" if nothing does.

    Raises:
        StoreError: it cannot be asked.
    """
    return "; ".join(
        _elsewhere(store, other, left)
        for other, left, _ in _left_elsewhere(store, directory, store.marks() or {})
    )


def left_in_default(store: Store, directory: StateDirectory) -> str:
    """For an agent: what waits in a directory that this store would have without ``directory=``, or
    had with an earlier livingai, and whose agents and service have gone; "" if nothing does."""
    said = []
    for path in default_directories(store):
        try:
            usual = StateDirectory(path)
            url = str(usual.manifest().get("store"))
            if not leads_to(url, store):
                continue
            if left := _left_in(usual, directory):
                said.append(_elsewhere(store, usual, left))
        except (DirectoryError, OSError):
            continue  # there is none, or it is not ours
    return "; ".join(said)


def default_directories(store: Store) -> list[str]:
    """Where the store's state directory is unless the user says otherwise, and where it was."""
    try:
        return [store.default_directory(), *store.former_directories()]
    except ConfigurationError:
        return []  # no home


def left_behind(
    store: Store, directory: StateDirectory | None
) -> Iterator[tuple[StateDirectory, int]]:
    """With the open ``store``: other state directories of this machine that hold records for it
    whose agents and service have gone, and how many."""
    for other, left, _ in _left_elsewhere(store, directory, store.marks() or {}):
        yield other, left


def leads_to(url: str, store: Store) -> bool:
    """Whether a URL names this store as far as is known without asking a database."""
    return url == store.url or _same_file(place_of(url), store.place)


def place_of(url: str) -> str | None:
    """The file that a store's URL names; None: a server's, or nothing that we know."""
    try:
        return open_store(url).place
    except (LivingAIError, ImportError):
        return None


def store_url_here(directory: StateDirectory) -> str:
    """The URL of a directory's store, as it is where the directory lies now: both may have been
    moved since it was written down.

    Raises:
        DirectoryError: it is no state directory.
    """
    manifest = directory.manifest()
    url = str(manifest.get("store"))
    place, lay = place_of(url), manifest.get("directory")
    if place is None or os.path.exists(place) or not url.endswith(place):
        return url
    candidates = [directory.path.removesuffix("-livingai")]
    if isinstance(lay, str):
        way = os.path.relpath(place, os.path.realpath(lay))
        candidates.insert(0, os.path.join(directory.path, way))
    for candidate in map(os.path.realpath, candidates):
        if os.path.isfile(candidate):
            return url.removesuffix(place) + candidate
    return url


def _note_directory(store: Store, directory: StateDirectory, marks: dict[str, str]) -> None:
    """Have the database remember this directory, and forget those that were used long ago."""
    noted = {name: when for name, when in marks.items() if name.startswith(_DIRECTORY)}
    name = _DIRECTORY + directory.path
    if time.time() - _seconds(noted.get(name, "")) > _NOTE_EVERY_S:
        store.mark(name, f"{time.time():.0f}")
    for old in sorted(noted, key=lambda known: _seconds(noted[known]))[
        : max(0, len(noted) - _REMEMBERED)
    ]:
        store.mark(old, None)


def _seconds(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _left_elsewhere(
    store: Store, directory: StateDirectory | None, marks: dict[str, str]
) -> Iterator[tuple[StateDirectory, int, bool]]:
    """Other directories on this database with records of dead owners and no service: which, how
    many, and whether no process would find the way from there to the database."""
    paths = [name.removeprefix(_DIRECTORY) for name in marks if name.startswith(_DIRECTORY)]
    for path in sorted(paths):
        try:
            other = StateDirectory(path)
            manifest = other.manifest()
            if manifest.get(IDENTITY) != marks.get(IDENTITY):
                continue
            busy = bool(manifest.get(RELOCATING))
            left = _left_in(other, directory, served=busy)
        except (DirectoryError, OSError):
            continue  # it is not on this machine, or no longer there
        if not left:
            continue
        place = place_of(str(manifest.get("store")))
        if busy:
            yield other, left, True
        elif place is None or store.place is None or _same_file(place, store.place):
            yield other, left, False
        elif not os.path.exists(place) or open_store(f"sqlite:///{place}").glance() != marks.get(
            IDENTITY
        ):
            yield other, left, True
        # else it is a copy's, and goes there


def _left_in(
    other: StateDirectory, directory: StateDirectory | None, *, served: bool = False
) -> int:
    """Records of dead owners in another directory without a service (or, ``served``, with one)."""
    if directory is not None and _same_file(other.path, directory.path):
        return 0
    if not served and owner_alive(other.lock):
        return 0
    return waiting_records(other, of_dead_owners=True)


def _same_file(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return False
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def _records(count: int) -> str:
    return "1 accepted record waits" if count == 1 else f"{count} accepted records wait"


def _another(store: Store, directory: StateDirectory, url: str) -> str:
    waiting = waiting_records(directory)
    there = f"{_records(waiting)} there" if waiting else "nothing waits there"
    return (
        f"the state directory {directory.path} belongs to {url}, not to {store.url}; {there}. If "
        f"it is the same database at a new place, run `livingai relocate {_named(store)} "
        f"--directory {directory.path}`; if these are two databases, give this one a directory of "
        "its own with directory=..."
    )


def _replaced(directory: StateDirectory, place: str, left: int) -> str:
    return (
        f"{_records(left)} in the state directory {directory.path} for a database that is not the "
        f"one at {place} now (removed, moved or replaced). Put that database back, or `livingai "
        f"relocate NEW_PLACE --directory {directory.path}` if it was moved; to have the records "
        f"stored in what is at {place} now, run `livingai relocate {place} --directory "
        f"{directory.path} --yes`"
    )


def _moved_alone(store: Store, other: StateDirectory, left: int) -> str:
    return (
        f"{store.place or store.url} was moved without its state directory {other.path}, where "
        f"{_records(left)}: what is read here would be older than what was saved. Run `livingai "
        f"relocate {_named(store)}` to have them stored (or remove that directory to give them up)"
    )


def _elsewhere(store: Store, other: StateDirectory, left: int) -> str:
    return (
        f"{_records(left)} in another state directory of this store, {other.path}, and no service "
        "runs there: what is read may be older than what was saved. `livingai relocate "
        f"{_named(store)} --directory {other.path}` has them stored"
    )


def _named(store: Store) -> str:
    return store.place or f"'{store.url}'"
