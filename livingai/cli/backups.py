"""``livingai backup`` and ``livingai restore``: a whole store as one file, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress

from livingai.archives.backup import (
    is_database,
    make_backup,
    restore_database,
    restore_into,
)
from livingai.archives.reading import open_target
from livingai.archives.staging import Imported
from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import config_of, drain, find, store_at
from livingai.inspection import quarantine
from livingai.inspection.directories import is_directory
from livingai.stores.base import Store
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore


@click.command(cls=PlacedCommand)
@store_argument("store")
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace an SQLite database that is no backup, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def backup(store: str, file: str, force: bool, as_json: bool) -> None:
    """Make a backup of STORE at FILE, while agents write: what was accepted before is in it.

    Of an SQLite database it is an SQLite database, of any other store an export. A FILE that is
    a backup is replaced when the new one is complete; one that is a store, or has files of a store
    beside it, is refused. Exit status 4: a damaged run was left out.
    """
    most = config_of(store).max_state_bytes
    drain(store)
    source = store_at(store)
    aside = _quarantined(store)
    with _screen() as progress, _file_errors(file):
        made = make_backup(source, file, max_state_bytes=most, progress=progress, force=force)
    left_out = made.exported.left_out if made.exported is not None else {}
    if as_json:
        output.json_line({
            "file": os.path.abspath(file), "bytes": made.size_bytes,
            "kind": "sqlite" if made.exported is None else "export", "quarantined": aside,
            "left_out": left_out,
        })  # fmt: skip
    else:
        click.echo(output.printable(f"{output.size(made.size_bytes)} in {file}"))
    if aside:
        click.echo(f"{aside} quarantined records are not in it (livingai status)", err=True)
    for run, why in left_out.items():
        click.echo(output.printable(f"{run} was left out, it is damaged: {why}"), err=True)
    if left_out:
        sys.exit(ExitStatus.DATA)


@click.command(cls=PlacedCommand)
@click.argument("file")
@store_argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def restore(file: str, store: str, as_json: bool) -> None:
    """Restore the backup (or export) FILE into STORE, and verify it.

    A backup of an SQLite database becomes one where none is; into any other store, and from an
    export, runs are brought as by `livingai import`, and nothing is overwritten. Exit status 4:
    FILE is damaged.
    """
    with _file_errors(file), _screen() as progress:
        database = is_database(file) if file != "-" else False
        target = _target(store)
        if database and isinstance(target, SQLiteStore):
            _refuse_service(store)
            restore_database(file, target)
            done, refused = f"{file} is at {target.path}", {}
        else:
            most = config_of(store).max_state_bytes
            drain(store)
            with open_target(target):
                found = restore_into(file, target, max_state_bytes=most, progress=progress)
            runs = found.runs + found.there if isinstance(found, Imported) else found.executions
            refused = found.refused | found.left_out if isinstance(found, Imported) else {}
            done = f"{runs} runs of {file} are in {target.url}"
    if as_json:
        output.json_line({"store": target.url, "database": database, "refused": refused})
    else:
        click.echo(output.printable(done))
    for run, why in refused.items():
        click.echo(output.printable(f"{run} was not restored: {why}"), err=True)
    if refused:
        sys.exit(ExitStatus.PROBLEM)
    _hint(store, target)


def _target(store: str) -> Store:
    """The store, which need not exist."""
    return store_at(store) if is_directory(store) else open_store(store)


def _quarantined(store: str) -> int:
    try:
        return len(quarantine.list_aside(find(store).directory))
    except CommandError:  # no agent of this machine has used it
        return 0


def _refuse_service(store: str) -> None:
    """Raise CommandError if a service works for what is to be restored."""
    try:
        owner = find(store).owner()
    except CommandError:
        return
    if owner is not None:
        raise CommandError("a service runs there: end the agents, and `livingai stop` it, first")


def _hint(store: str, target: Store) -> None:
    """Say what to do where journals of the time since the backup are still there."""
    try:
        journals = find(store).journals()
    except CommandError:
        return
    if journals and isinstance(target, SQLiteStore):
        where = output.shell_word(target.path)
        click.echo(
            f"journals are there, too: livingai check {where} --store {where} --repair, before any "
            "agent starts, also stores what they have of the time since",
            err=True,
        )


@contextmanager
def _file_errors(file: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CommandError(f"{error.filename}: no such file", ExitStatus.UNREACHABLE) from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise CommandError(f"{error.filename or file}: {error.strerror}") from error


class _Shown:
    """Shows how far it is."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def __call__(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total)


@contextmanager
def _screen() -> Iterator[_Shown]:
    screen = Console(stderr=True)
    with Progress(console=screen, disable=not screen.is_terminal) as bar:
        yield _Shown(bar)
