"""``livingai import``: what other persistence has stored, into a store of livingai."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click
from rich.console import Console
from rich.progress import Progress

from livingai.cli.exit_status import CommandError
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import engine_on
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ImportMismatchError, ImportSourceError
from livingai.importing.kinds import KINDS, ImportOptions, ImportSummary, load
from livingai.inspection.directories import NothingThereError, existing_store, is_directory

_STRICT = os.getenv("LANGGRAPH_STRICT_MSGPACK", "false").lower() in ("1", "true", "yes")


@click.command(name="import", cls=PlacedCommand)
@click.option(
    "--from", "kind", type=click.Choice(list(KINDS)), required=True, help="What SOURCE is."
)
@click.argument("source")
@store_argument("store")
@click.option("--thread", "threads", multiple=True, help="Only this thread; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Read everything, write nothing.")
@click.option(
    "--strict", is_flag=True, default=_STRICT,
    help="Refuse values that strict deserialization would not make.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_data(
    kind: str, source: str, store: str, threads: tuple[str, ...], dry_run: bool, strict: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Import SOURCE, a file or a DSN, into STORE, and read back what was stored. SOURCE is not
    changed, and may be in use.

    What STORE has already is not added again, so an import that was interrupted can be run again.
    Exit status 4: SOURCE cannot be read, or what was read back differs.
    """
    options = ImportOptions(threads, dry_run, strict)
    with ExitStack() as stack:
        stack.enter_context(_data_errors(as_json))
        engine = _engine_for(store, dry_run)
        if engine is not None:
            stack.enter_context(engine)
        screen = Console(stderr=True)
        bar = stack.enter_context(Progress(console=screen, disable=not screen.is_terminal))
        task = bar.add_task("checkpoints", total=None)

        def show(done: ImportSummary) -> None:
            bar.update(task, completed=done.checkpoints + done.verified_checkpoints)

        summary = load(kind)(source, engine, options, show)
    if as_json:
        click.echo(json.dumps(summary.to_json() | {"dry_run": dry_run}, indent=2))
        return
    for line in _lines(summary, dry_run):
        click.echo(line)


def _engine_for(store: str, dry_run: bool) -> CheckpointEngine | None:
    """An engine on the store; None for a dry run into one that does not exist."""
    if dry_run and not is_directory(store):
        try:
            existing_store(store)
        except NothingThereError:
            return None
    return engine_on(store, new=True)


@contextmanager
def _data_errors(as_json: bool) -> Iterator[None]:
    try:
        yield
    except (ImportSourceError, ImportMismatchError) as error:
        if as_json:
            name = type(error).__name__
            click.echo(json.dumps({"error": name, "message": f"{error}"}, indent=2))
        raise CommandError.of(error) from error


def _lines(summary: ImportSummary, dry_run: bool) -> Iterator[str]:
    added = f"{summary.added_checkpoints} checkpoints and {summary.added_writes} writes"
    there = summary.checkpoints - summary.added_checkpoints
    of = f"{summary.threads} threads with {summary.checkpoints} checkpoints"
    if dry_run:
        yield f"{of}; would import {added}; nothing was written"
    else:
        yield f"{of}; imported {added}; {there} checkpoints were there already"
        yield f"read back: {summary.verified_checkpoints} checkpoints are the same in both"
    if summary.writes_without_checkpoint:
        yield (
            f"{summary.writes_without_checkpoint} writes were left out, as the source does not "
            "have their checkpoints"
        )
    if summary.types:
        yield (
            "types that a strict serializer has to be told of (allowed_msgpack_modules): "
            + ", ".join(sorted(summary.types))
        )
