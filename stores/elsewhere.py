"""Other state directories of this machine on the same database, and records that were left there.

A service notes its directory among the database's marks. The next service on the database, in
whatever directory, goes through the noted ones. *Left* are accepted records without an outcome in a
journal whose owner has ended, where no service runs that would store them: they are missing in what
is read from the database. If the directory's manifest no longer leads to the database, because that
was moved alone, no service would ever store them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from livingai.errors import DirectoryError, RecordsLeftError
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive
from livingai.queue.waiting import waiting_records
from livingai.stores.base import IDENTITY, Store
from livingai.stores.mismatches import moved_alone, waits_elsewhere
from livingai.stores.opening import open_store
from livingai.stores.whereabouts import default_directories, leads_to, place_of, same_file

#: The key of a manifest whose waiting records `livingai relocate` is storing. Until it has, other
#: directories' services on this database refuse to read: they would read less than was saved.
RELOCATING: Final = "relocating"
#: A mark of this prefix and a directory's path; its value is the time of the note.
_DIRECTORY: Final = "directory:"
#: A database remembers this many directories, those noted last.
_REMEMBERED: Final = 100
#: Seconds after which a directory that is in use is noted again.
_NOTE_EVERY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Left:
    """Records that were left in another state directory of a database."""

    directory: StateDirectory
    #: How many.
    count: int
    #: Nothing may be read or stored before these records are: no service would ever store them,
    #: because the directory's manifest does not lead to the database, or `livingai relocate` is
    #: storing them now.
    blocks: bool


def left_behind(store: Store, directory: StateDirectory | None) -> Iterator[Left]:
    """What was left for the open ``store`` in state directories other than ``directory``."""
    yield from _left_elsewhere(store, directory, store.marks() or {})


def look_elsewhere(store: Store, directory: StateDirectory) -> str:
    """What was left for the open ``store`` in other state directories, as a text for the user; ""
    if nothing was.

    Raises:
        StoreError: it cannot be asked.
    """
    return "; ".join(
        waits_elsewhere(store, left.directory, left.count) for left in left_behind(store, directory)
    )


def refuse_while_left(store: Store, directory: StateDirectory, marks: dict[str, str]) -> None:
    """Raise RecordsLeftError if records were left that must be stored first. ``marks`` are those of
    the open ``store``."""
    for left in _left_elsewhere(store, directory, marks):
        if left.blocks:
            raise RecordsLeftError(moved_alone(store, left.directory, left.count))


def left_in_default(store: Store, directory: StateDirectory) -> str:
    """As :func:`look_elsewhere`, for an agent, which does not ask the database: looks only at the
    directories that the store has without ``directory=``, in this livingai or an earlier one."""
    said = []
    for path in default_directories(store):
        try:
            usual = StateDirectory(path)
            url = str(usual.manifest().get("store"))
            if not leads_to(url, store):
                continue
            if count := _left_in(usual, directory):
                said.append(waits_elsewhere(store, usual, count))
        except (DirectoryError, OSError):
            continue  # there is none, or it is not ours
    return "; ".join(said)


def note_directory(store: Store, directory: StateDirectory, marks: dict[str, str]) -> None:
    """Note this directory among the database's ``marks``, and remove the oldest notes."""
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
) -> Iterator[Left]:
    paths = [name.removeprefix(_DIRECTORY) for name in marks if name.startswith(_DIRECTORY)]
    for path in sorted(paths):
        try:
            other = StateDirectory(path)
            manifest = other.manifest()
            if manifest.get(IDENTITY) != marks.get(IDENTITY):
                continue
            busy = bool(manifest.get(RELOCATING))
            count = _left_in(other, directory, served=busy)
        except (DirectoryError, OSError):
            continue  # it is not on this machine, or no longer there
        if not count:
            continue
        place = place_of(str(manifest.get("store")))
        if busy:
            yield Left(other, count, blocks=True)
        elif place is None or store.place is None or same_file(place, store.place):
            yield Left(other, count, blocks=False)
        elif not os.path.exists(place) or open_store(f"sqlite:///{place}").glance() != marks.get(
            IDENTITY
        ):
            yield Left(other, count, blocks=True)
        # else a copy of the database is at that place, and the records will be stored there


def _left_in(
    other: StateDirectory, directory: StateDirectory | None, *, served: bool = False
) -> int:
    """How many records were left in ``other``; 0 if it is ``directory``. ``served``: count them
    even if a service runs there."""
    if directory is not None and same_file(other.path, directory.path):
        return 0
    if not served and owner_alive(other.lock):
        return 0
    return waiting_records(other, of_dead_owners=True)
