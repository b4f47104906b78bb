"""``livingai export``: runs as JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO

import click
from rich.console import Console
from rich.progress import Progress

from livingai.archives.export import Exported, export_runs
from livingai.archives.files import writing
from livingai.archives.targets import check_export_target
from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import store_option
from livingai.cli.where import config_of, drain, store_at
from livingai.stores.base import Store


@click.command()
@store_option
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--prefix", default="", help="Only runs whose id begins with this.")
@click.option("--output", "-o", "path", metavar="FILE", help="Into FILE; .gz, .zst: compressed.")
@click.option("--json", "as_json", is_flag=True, help="With -o: print what was exported as JSON.")
def export(store: str, runs: tuple[str, ...], prefix: str, path: str | None, as_json: bool) -> None:
    """Export RUNs, or all, as JSON lines that `livingai import` reads into any store.

    What was accepted before is waited for; agents may save meanwhile. FILE is there when it is
    complete, not before; one that is a database, or has files of one beside it, is refused. Exit
    status 4: a damaged run was left out.
    """
    if as_json and path is None:
        raise click.UsageError("--json needs --output; the export itself is JSON")
    if runs and prefix:
        raise click.UsageError("name RUNs or a --prefix, not both")
    most = config_of(store).max_state_bytes
    drain(store)
    screen = Console(stderr=True)
    bar = Progress(console=screen, disable=path is None or not screen.is_terminal)
    with store_at(store) as source, _output(path, source) as file, bar:
        task = bar.add_task("runs", total=None)
        done = export_runs(
            source, file.write, runs=runs, prefix=prefix, max_state_bytes=most,
            progress=lambda now: bar.update(task, completed=now.runs),
        )  # fmt: skip
    _tell(done, path, as_json)
    if done.left_out:
        sys.exit(ExitStatus.DATA)


@contextmanager
def _output(path: str | None, source: Store) -> Iterator[IO[bytes]]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        check_export_target(path, source)
        with writing(path) as file:
            yield file
            check_export_target(path, source)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise CommandError(f"{path} cannot be written: {error}") from error


def _tell(done: Exported, path: str | None, as_json: bool) -> None:
    if as_json:
        output.json_line(asdict(done))
    elif path is not None:
        text = f"exported {done.runs} runs, {done.nodes} nodes and {done.states} states"
        click.echo(output.printable(f"{text} to {path}"))
    for run in done.moving:
        told = f"{run} was written all the time: what was exported of it is of no one moment"
        click.echo(output.printable(told), err=True)
    for run, why in done.left_out.items():
        click.echo(output.printable(f"{run} was left out, it is damaged: {why}"), err=True)
