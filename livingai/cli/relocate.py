"""``relocate``: a database and its state directories find each other again."""

from __future__ import annotations

import os
import secrets
import sys
import time

import click

from livingai.cli.where import existing_store
from livingai.errors import (
    LivingAIError,
    RecordsLeftError,
    ServiceUnavailableError,
    StoreMismatchError,
)
from livingai.queue.directory import MANIFEST, StateDirectory
from livingai.queue.lock import owner_alive
from livingai.queue.waiting import waiting_records
from livingai.service.service import Service, ask_service
from livingai.stores.base import IDENTITY, Store
from livingai.stores.belonging import RELOCATING, default_directories, leads_to, left_behind

#: Seconds within which at least one more record must be stored.
_PATIENCE_S = 60.0
#: Seconds within which a service that runs looks at the manifest again.
_LOOK_S = 10.0


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--directory", help="The state directory (default: all that are known to belong).")
@click.option("--yes", is_flag=True, help="Also a directory whose records are of another database.")
def relocate(store: str, directory: str | None, yes: bool) -> None:
    """Bring state directories to the database at STORE, wherever it is now, and have stored what
    waits in them.

    For a database that was moved without its directory, a directory that was moved, or a server
    with a new name. A directory of another database is taken only with --yes (or when asked).
    Exit status 1 if records still wait.
    """
    with existing_store(store) as known:
        directories = _directories(known, directory)
        identity = _identity(known)
        for one in directories:
            _check(known, one, identity, yes=yes)
    left = 0
    for one in directories:  # one after the other: until its turn each keeps others from reading
        own = one.path in default_directories(known)
        one.change_manifest(
            {
                "store": known.url,
                "directory": one.path,
                IDENTITY: identity,
                RELOCATING: None if own else "yes",
            }
        )
        before = waiting_records(one)
        if before:
            _store_what_waits(existing_store(store), one)
        one.change_manifest({RELOCATING: None})
        still = waiting_records(one)
        left += still
        click.echo(
            f"{one.path} belongs to {known.url}; {before - still} accepted records were stored"
            + (f", {still} still wait" if still else "")
        )
    if left:
        raise click.ClickException(f"{left} records wait still; `livingai status {store}` says why")


def _directories(store: Store, named: str | None) -> list[StateDirectory]:
    """Which directories are meant; what was left behind first, it is older."""
    if named is not None:
        directory = StateDirectory(named)
        directory.manifest()
        return [directory]
    usual = StateDirectory(default_directories(store)[0]) if default_directories(store) else None
    found = {directory.path: directory for directory, _ in left_behind(store, usual)}
    for path in reversed(default_directories(store)):
        if os.path.lexists(os.path.join(path, MANIFEST)):
            found.setdefault(StateDirectory(path).path, StateDirectory(path))
    if not found:
        raise click.ClickException(
            f"no state directory of {store.url} is known on this machine; name it with --directory"
        )
    return list(found.values())


def _identity(store: Store) -> str | None:
    """The database's identity, made if it has none; None: this store keeps none."""
    if store.marks() is None:
        return None
    store.mark(IDENTITY, secrets.token_hex(16), keep=True)
    return (store.marks() or {})[IDENTITY]


def _check(store: Store, directory: StateDirectory, identity: str | None, *, yes: bool) -> None:
    """Whether the directory may be brought to the store."""
    manifest = directory.manifest()
    url, known = str(manifest.get("store")), manifest.get(IDENTITY)
    if owner_alive(directory.lock) and not leads_to(url, store):
        raise click.ClickException(
            f"a service for {url} runs in {directory.path}; end its agents and run `livingai stop "
            f"{directory.path}` first"
        )
    if known is None or known == identity or yes:
        return
    count = waiting_records(directory)
    click.echo(
        f"{directory.path} is of another database (it was at {url}); {count} accepted records wait "
        "there."
    )
    if not sys.stdin.isatty():
        raise click.ClickException(f"nothing was changed; --yes has them stored in {store.url}")
    click.confirm(f"Have them stored in {store.url}?", abort=True)


def _store_what_waits(store: Store, directory: StateDirectory) -> None:
    """Have the directory's records stored, by its service if one runs."""
    try:
        if owner_alive(directory.lock):
            _drain(store, directory)
            return
        with Service(store, directory.path):
            _drain(store, directory)
    except LivingAIError as error:
        click.echo(f"{directory.path}: {type(error).__name__}: {error}", err=True)


def _drain(store: Store, directory: StateDirectory) -> None:
    """Wait for the service for as long as it gets on."""
    look_until = time.monotonic() + _LOOK_S
    while True:
        before = waiting_records(directory)
        try:
            ask_service(directory, store.url, "drain", timeout_s=_PATIENCE_S)
        except (StoreMismatchError, RecordsLeftError):  # as it was before we came
            if time.monotonic() > look_until:
                raise
            time.sleep(0.1)
        except ServiceUnavailableError:
            if waiting_records(directory) >= before:
                raise
        else:
            return
