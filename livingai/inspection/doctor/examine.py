"""The whole examination. Nothing is changed, and no service is started."""

from __future__ import annotations

import os
import platform
import shlex
from importlib import metadata

from livingai._version import __version__
from livingai.errors import ConfigurationError, LivingAIError
from livingai.inspection.directories import (
    DirectoryView,
    NothingThereError,
    existing_store,
    find_directory,
    is_directory,
)
from livingai.inspection.doctor.ailment import Examination, Grade
from livingai.inspection.doctor.directory import examine_directory
from livingai.inspection.doctor.machine import examine_disk, examine_machine
from livingai.inspection.doctor.server import examine_store
from livingai.stores.base import Store
from livingai.stores.opening import open_store

#: Packages whose version matters.
_PACKAGES = ("apsw", "redis", "psycopg", "zstandard", "msgpack", "uvloop")


def examine(where: str, directory: str | None = None) -> Examination:
    """Look at the place that ``where`` means: a store's file or URL, or a state directory;
    ``directory``: the state directory, if that is not the usual one.

    Raises:
        NothingThereError: there is nothing of that name.
        ConfigurationError: no store has such a URL.
    """
    found = Examination()
    found.facts["livingai"] = __version__
    found.facts["Python"] = f"{platform.python_version()} on Linux {platform.release()}"
    found.facts["packages"] = ", ".join(_versions())
    examine_machine(found)
    view = _view(found, where, directory)
    store = _store(found, view, where)
    if view is not None:
        examine_directory(found, view, _named(where, store))
        examine_disk(found, view.path, "the state directory")
    if store is not None:
        place = store.place
        if place is None or os.path.exists(place):
            examine_store(found, store, _named(where, store))
        if place is not None and os.path.exists(place):
            beside = view is not None and os.stat(view.path).st_dev == os.stat(place).st_dev
            if not beside:
                examine_disk(found, place, "the database")
    found.ailments.sort(key=lambda ailment: -ailment.grade)
    return found


def _named(where: str, store: Store | None) -> str:
    """The place as a word for a shell, without credentials."""
    if store is None or store.place is not None or is_directory(where):
        return shlex.quote(where)
    return shlex.quote(store.url)


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found


def _view(found: Examination, where: str, directory: str | None) -> DirectoryView | None:
    try:
        return find_directory(where, directory)
    except NothingThereError as error:
        existing_store(where)  # raises if there is nothing at all
        found.find(
            "no-directory", Grade.NOTE, str(error), "there is nothing to say of a service", ""
        )
    except ConfigurationError:
        raise  # no store has such a URL
    except (LivingAIError, OSError) as error:
        found.find(
            "manifest", Grade.ERROR, str(error), "agents refuse such a directory",
            "livingai check --repair",
        )  # fmt: skip
    return None


def _store(found: Examination, view: DirectoryView | None, where: str) -> Store | None:
    try:
        if is_directory(where):
            return view.open_store() if view is not None else None
        return open_store(where)
    except (LivingAIError, ImportError) as error:
        found.find(
            "store-driver", Grade.ERROR, str(error), "the store cannot be opened here",
            "see the message",
        )  # fmt: skip
        return None
