"""``livingai import-runs``: recorded message runs into a store."""

from __future__ import annotations

import click

from livingai.adapters.messages import import_run_sync, read_runs
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import engine_on


@click.command(name="import-runs", cls=PlacedCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@store_argument("store")
@click.option("--prefix", default="", help="Put this before the id of each run.")
@click.option(
    "--idempotent",
    multiple=True,
    metavar="TOOL",
    help="A tool that is safe to call again; may be repeated.",
)
def import_runs(file: str, store: str, prefix: str, idempotent: tuple[str, ...]) -> None:
    """Import the recorded runs of FILE (JSONL, may be .gz) into STORE as execution graphs.

    A run that STORE already has is skipped, so an interrupted import can be run again.
    """
    done = there = messages = 0
    with engine_on(store, new=True) as engine:
        for run in read_runs(file, prefix):
            if import_run_sync(engine, run, idempotent):
                done += 1
                messages += len(run.messages)
            else:
                there += 1
        engine.flush_sync()
    click.echo(f"imported {done} runs with {messages} messages; {there} were there already")
