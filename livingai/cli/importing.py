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
from livingai.cli.where import engine_on
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ImportMismatchError, ImportSourceError
from livingai.importing.kinds import KINDS, ImportOptions, ImportSummary, load
from livingai.inspection.directories import NothingThereError, existing_store, is_directory
from livingai.stores.opening import open_store

_STRICT = os.getenv("LANGGRAPH_STRICT_MSGPACK", "false").lower() in ("1", "true", "yes")
#: What a source that is not LangGraph's has several of, and what these consist of.
_LANGGRAPH = ("threads", "checkpoints")
_NOUNS = {"livingai-0.4": ("executions", "saves")}


@click.command(name="import")
@click.option(
    "--from", "kind", type=click.Choice(list(KINDS)), required=True, help="What SOURCE is."
)
@click.argument("source")
@click.argument("store", metavar="STORE")
@click.option("--thread", "threads", multiple=True,
    help="Only this thread (of livingai-0.4: execution); may be repeated.",
)  # fmt: skip
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
    for line in _lines(summary, dry_run, *_NOUNS.get(kind, _LANGGRAPH)):
        click.echo(line)


def _engine_for(store: str, dry_run: bool) -> CheckpointEngine | None:
    """An engine on the store; None for a dry run into one that does not exist."""
    if is_directory(store):
        return engine_on(store)
    if not dry_run:
        return CheckpointEngine(open_store(store))
    try:
        return CheckpointEngine(existing_store(store))
    except NothingThereError:
        return None


@contextmanager
def _data_errors(as_json: bool) -> Iterator[None]:
    try:
        yield
    except (ImportSourceError, ImportMismatchError) as error:
        if as_json:
            name = type(error).__name__
            click.echo(json.dumps({"error": name, "message": f"{error}"}, indent=2))
        raise CommandError.of(error) from error


def _lines(summary: ImportSummary, dry_run: bool, one: str, part: str) -> Iterator[str]:
    """``one``: what the source has several of; ``part``: what these consist of."""
    added = f"{summary.added_checkpoints} {part}"
    if part == "checkpoints":
        added += f" and {summary.added_writes} writes"
    there = summary.checkpoints - summary.added_checkpoints
    of = f"{summary.threads} {one} with {summary.checkpoints} {part}"
    if dry_run:
        yield f"{of}; would import {added}; nothing was written"
    else:
        yield f"{of}; imported {added}; {there} {part} were there already"
        yield f"read back: {summary.verified_checkpoints} {part} are the same in both"
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
