"""Where a store's database and its state directory are, as far as paths and URLs say.

Nothing here asks a database: that two names lead to one file says nothing about whether the
database in it is still the same one (:mod:`livingai.stores.belonging` compares identities).
"""

from __future__ import annotations

import os

from livingai.errors import ConfigurationError, LivingAIError
from livingai.queue.directory import StateDirectory
from livingai.stores.base import Store
from livingai.stores.opening import open_store


def same_file(one: str | None, other: str | None) -> bool:
    """Whether two paths are of one file; not if one is None or nothing is there."""
    if one is None or other is None:
        return False
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def place_of(url: str) -> str | None:
    """The file that a store's URL names; None: it names a server, or is no URL of a known store."""
    try:
        return open_store(url).place
    except (LivingAIError, ImportError):
        return None


def leads_to(url: str, store: Store) -> bool:
    """Whether a URL names this store: it is the store's own, or another name of its file."""
    return url == store.url or same_file(place_of(url), store.place)


def default_directories(store: Store) -> list[str]:
    """The paths of the store's state directory where the user names none: first the one of this
    livingai, then those of earlier ones. Empty for a user without a home."""
    try:
        return [store.default_directory(), *store.former_directories()]
    except ConfigurationError:
        return []


def store_url_here(directory: StateDirectory) -> str:
    """The URL of a directory's store. If directory and database were moved together since the
    manifest was written, the URL at the new place.

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
