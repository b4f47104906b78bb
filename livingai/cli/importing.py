"""``livingai import``: an export, or what other persistence has stored, into a store."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import IO, Final

import click
from rich.console import Console
from rich.progress import Progress

from livingai.archives.files import reading
from livingai.archives.reading import import_runs, open_target
from livingai.archives.staging import Imported
from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import config_of, drain, engine_on, store_at
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ImportMismatchError, ImportSourceError
from livingai.importing.kinds import KINDS, ImportOptions, ImportSummary, load
from livingai.inspection.directories import NothingThereError, existing_store, is_directory
from livingai.stores.opening import open_store

#: The kind of an export of livingai's own.
_OWN: Final = "livingai"
_STRICT = os.getenv("LANGGRAPH_STRICT_MSGPACK", "false").lower() in ("1", "true", "yes")
#: What a source that is not LangGraph's has several of, and what these consist of.
_LANGGRAPH = ("threads", "checkpoints")
_NOUNS = {"livingai-0.4": ("executions", "saves")}


@click.command(name="import", cls=PlacedCommand)
@click.option(
    "--from", "kind", type=click.Choice([_OWN, *KINDS]), default=_OWN, show_default=True,
    help="What SOURCE is.",
)  # fmt: skip
@click.argument("source")
@store_argument("store")
@click.option("--prefix", default="", help="Put this before the id of each run of an export.")
@click.option("--thread", "threads", multiple=True,
              help="Only this thread (of livingai-0.4: execution); may be repeated.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Read everything, write nothing.")
@click.option(
    "--strict", is_flag=True, default=_STRICT,
    help="Refuse values that strict deserialization would not make.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def import_data(
    *, kind: str, source: str, store: str, prefix: str, threads: tuple[str, ...], dry_run: bool,
    strict: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import SOURCE into STORE, and read back what was stored. SOURCE is an export (`livingai
    export`; - is standard input) or, with --from, another saver's file or DSN, which is not
    changed, and may be in use.

    What STORE has already is not added again, so an import that was interrupted can be run again.
    Exit status 1: STORE has another run of the same id, which was left alone. 4: SOURCE cannot be
    read or is damaged, or what was read back differs.
    """
    if kind == _OWN:
        if threads:
            raise click.UsageError("--thread is for LangGraph's savers (--from langgraph-...)")
        _import_export(source, store, prefix, dry_run, as_json)
        return
    if prefix:
        raise click.UsageError("--prefix is for exports, not for --from langgraph-...")
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


def _import_export(source: str, store: str, prefix: str, dry_run: bool, as_json: bool) -> None:
    screen = Console(stderr=True)
    most = config_of(store).max_state_bytes
    with ExitStack() as stack:
        stack.enter_context(_data_errors(as_json))
        file = stack.enter_context(_opened(source))
        target = None
        if not dry_run:
            target = store_at(store) if is_directory(store) else open_store(store)
            drain(store)
            stack.enter_context(open_target(target))
        bar = stack.enter_context(Progress(console=screen, disable=not screen.is_terminal))
        task = bar.add_task("runs", total=None)
        done = import_runs(
            file, target, prefix=prefix, max_state_bytes=most,
            progress=lambda now: bar.update(task, completed=now.runs + now.there),
        )  # fmt: skip
    if as_json:
        output.json_line(asdict(done) | {"dry_run": dry_run})
    else:
        did = "would import" if dry_run else "imported"
        click.echo(
            f"{did} {done.runs} runs with {done.nodes} nodes and {done.states} states; "
            f"{done.there} were there already"
        )
    for told in (*_refusals(done), *_left_out(done)):
        click.echo(output.printable(told), err=True)
    if done.refused or done.left_out:
        sys.exit(ExitStatus.PROBLEM)


def _refusals(done: Imported) -> Iterator[str]:
    for run, why in done.refused.items():
        yield f"{run} was not imported: {why} (or import with --prefix)"


def _left_out(done: Imported) -> Iterator[str]:
    for run, why in done.left_out.items():
        yield f"{run} is not in the export, it was damaged as this was made: {why}"


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    try:
        with reading(source) as file:
            yield file
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CommandError(f"{source} cannot be read: {error}", ExitStatus.UNREACHABLE) from error


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
