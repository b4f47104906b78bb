"""The messages for a user whose database and state directory do not belong together.

Each text says what was found, how many accepted records wait, and what to do about it. None
advises to give the records up without saying so: ``livingai relocate`` has them stored in the
database that the user names.
"""

from __future__ import annotations

from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from livingai.stores.base import Store


def another_stores(store: Store, directory: StateDirectory, url: str) -> str:
    """The directory belongs to the store at ``url``."""
    waiting = waiting_records(directory)
    there = f"{_records(waiting)} there" if waiting else "nothing waits there"
    return (
        f"the state directory {directory.path} belongs to {url}, not to {store.url}; {there}. If "
        f"it is the same database at a new place, run `livingai relocate {_named(store)} "
        f"--directory {directory.path}`; if these are two databases, give this one a directory of "
        "its own with directory=..."
    )


def replaced(store: Store, directory: StateDirectory, left: int) -> str:
    """``left`` records wait for a database that is no longer at the store's place."""
    place = store.place or store.url
    return (
        f"{_records(left)} in the state directory {directory.path} for a database that is not the "
        f"one at {place} now (removed, moved or replaced). Put that database back, or `livingai "
        f"relocate NEW_PLACE --directory {directory.path}` if it was moved; to have the records "
        f"stored in what is at {place} now, run `livingai relocate {place} --directory "
        f"{directory.path} --yes`"
    )


def a_copy(store: Store, directory: StateDirectory, url: str) -> str:
    """The store is a copy of the one at ``url``, which is the directory's and is there, too."""
    return (
        f"{store.url} is a copy of the database of {directory.path}, which is {url} and is there: "
        f"name that one. To have the copy in its place, end the agents and the service, move the "
        f"database at {url} away, and put the copy there"
    )


def moved_alone(store: Store, other: StateDirectory, left: int) -> str:
    """``left`` records wait in ``other``, whose manifest no longer leads to the database."""
    return (
        f"{store.place or store.url} was moved without its state directory {other.path}, where "
        f"{_records(left)}: what is read here would be older than what was saved. Run `livingai "
        f"relocate {_named(store)}` to have them stored (or remove that directory to give them up)"
    )


def waits_elsewhere(store: Store, other: StateDirectory, left: int) -> str:
    """``left`` records wait in ``other``, another state directory on the same database."""
    return (
        f"{_records(left)} in another state directory of this store, {other.path}, and no service "
        "runs there: what is read may be older than what was saved. `livingai relocate "
        f"{_named(store)} --directory {other.path}` has them stored"
    )


def _records(count: int) -> str:
    return "1 accepted record waits" if count == 1 else f"{count} accepted records wait"


def _named(store: Store) -> str:
    """The store as an argument on a command line."""
    return store.place or f"'{store.url}'"
