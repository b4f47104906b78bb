"""``livingai relocate``: bring state directories to a database that was moved."""

from __future__ import annotations

import shlex
import sys

import click

from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import store_at
from livingai.service.relocation import Misplaced, bring, find_misplaced
from livingai.stores.base import Store


@click.command(cls=PlacedCommand)
@store_argument("store")
@click.option("--directory", help="The state directory (default: all that are known to belong).")
@click.option("--yes", is_flag=True, help="Also a directory whose records are of another database.")
def relocate(store: str, directory: str | None, yes: bool) -> None:
    """Bring state directories to the database at STORE, wherever it is now, and store what waits in
    them.

    For a database that was moved without its directory, a directory that was moved, or a server
    with a new name. A directory of another database is taken only with --yes (or when asked).
    Exit status 1 if records still wait.
    """
    with store_at(store) as known:
        found = find_misplaced(known, directory)
        if not found:
            raise click.ClickException(
                f"no state directory of {known.url} is known on this machine; name it with "
                "--directory"
            )
        for one in found:
            _permit(known, one, yes=yes)
    left = 0
    for one in found:  # in this order: a directory with waiting records holds back later ones
        brought = bring(known, one, lambda: store_at(store))
        if brought.error is not None:
            name = type(brought.error).__name__
            click.echo(f"{brought.path}: {name}: {brought.error}", err=True)
        left += brought.waiting
        click.echo(
            f"{brought.path} belongs to {known.url}; {brought.stored} accepted records were stored"
            + (f", {brought.waiting} still wait" if brought.waiting else "")
        )
    if left:
        named = shlex.quote(known.url)  # STORE may have a password
        raise click.ClickException(f"{left} records still wait; `livingai status {named}` says why")


def _permit(store: Store, misplaced: Misplaced, *, yes: bool) -> None:
    """Ask before a directory of another database is taken; a ClickException if it may not be."""
    path, url = misplaced.path, misplaced.url
    if misplaced.occupied:
        raise click.ClickException(
            f"agents or a service of {url} use {path}; end the agents and run `livingai stop "
            f"{path}` first"
        )
    if not misplaced.foreign or yes:
        return
    click.echo(
        f"{path} is of another database, as far as is known (it was at {url}); "
        f"{misplaced.waiting()} accepted records wait there."
    )
    if not sys.stdin.isatty():
        raise click.ClickException(f"nothing was changed; --yes has them stored in {store.url}")
    click.confirm(f"Have them stored in {store.url}?", abort=True)
