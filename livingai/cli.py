"""The command line: ``livingai serve``, ``status``, ``check``, ``requeue``, ``stop``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click
import psutil
from rich.console import Console
from rich.table import Table

from livingai._version import __version__
from livingai.check import check_directory
from livingai.config import EngineConfig
from livingai.engine import CheckpointEngine
from livingai.errors import LivingAIError, ServiceUnavailableError
from livingai.queue.directory import MANIFEST, StateDirectory
from livingai.queue.lock import owner_alive
from livingai.requeue import list_aside, requeue
from livingai.service import Service, ask_service
from livingai.stores.base import Store
from livingai.stores.opening import open_store

_out = Console(highlight=False)


def _find(where: str) -> tuple[StateDirectory, str]:
    """A state directory and its store's URL, from a directory or from a store's path or URL."""
    if os.path.isfile(os.path.join(where, MANIFEST)):
        directory = StateDirectory(where)
    else:
        directory = StateDirectory(open_store(where).default_directory())
    return directory, str(directory.manifest().get("store"))


class _Cli(click.Group):
    """Prints livingai's errors as one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LivingAIError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error


@click.group(cls=_Cli)
@click.version_option(__version__)
def main() -> None:
    """Write-behind persistence for AI agents.

    WHERE is a state directory, or the file or URL of the store it belongs to.
    """


@main.command()
@click.argument("store", metavar="STORE")
@click.option("--directory", help="State directory (default: derived from the store).")
@click.option("--compressors", type=int, help="Compressor processes (default: one per core).")
@click.option("--writers", type=int, help="Writer processes (default: what the store takes).")
@click.option("--codec", default="auto", show_default=True, help="auto, zstd, zlib or raw.")
def serve(
    store: str, directory: str | None, compressors: int | None, writers: int | None, codec: str
) -> None:
    """Run the writer service in the foreground until Ctrl-C or SIGTERM; it drains first."""
    config = EngineConfig(compressors=compressors, writers=writers, codec=codec)
    _serve(open_store(store), directory, config)


def _serve(store: Store, directory: str | None, config: EngineConfig) -> None:
    import signal  # noqa: PLC0415 - only here

    service = Service(store, directory, config, verbose=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    service.start()
    _out.print(f"serving {store.url} in {service.directory.path}; Ctrl-C drains and stops")
    try:
        code = service.wait()
    except KeyboardInterrupt:
        _out.print("draining; Ctrl-C again stops at once, what is left stays in the journals")
        try:
            service.stop()
        except KeyboardInterrupt:
            service.stop(drain=False)
        code = 0
    sys.exit(code)


@main.command()
@click.argument("where")
def status(where: str) -> None:
    """Say what the service of a state directory is doing, and what is quarantined."""
    directory, url = _find(where)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("state directory", directory.path)
    try:
        answer = ask_service(directory, url, "status")
    except ServiceUnavailableError:
        table.add_row("store", url)
        table.add_row("service", "not running (the next save or read starts it)")
        table.add_row("journals", str(len(directory.journal_paths())))
    else:
        _describe(table, answer)
    aside = list_aside(directory)
    table.add_row("quarantined", str(len(aside)))
    _out.print(table)
    for record in aside:
        name = f"{record.execution_id} {record.node_id}" if record.execution_id else "unreadable"
        _out.print(f"  {os.path.basename(record.path)}  {name}: {record.reason}")


def _describe(table: Table, answer: dict[str, Any]) -> None:
    pids = answer["pids"]
    table.add_row("store", answer["store"])
    table.add_row("service", f"running since {_ago(answer['started_at'])}")
    for role, pid in pids.items():
        listed = ", ".join(map(str, pid)) if isinstance(pid, list) else str(pid or "not started")
        table.add_row(f"  {role}", listed)
    table.add_row("agents", str(answer["agents"]))
    dead = answer["journals_of_dead_owners"]
    table.add_row("journals", f"{answer['journals']} ({dead} of dead owners)")
    table.add_row("on their way", f"{answer['inflight']} ({answer['inflight_bytes']} bytes)")
    counts = ", ".join(f"{count} {name}" for name, count in answer["outcomes"].items() if count)
    table.add_row("outcomes", counts or "none yet")
    if answer["trouble"]:
        table.add_row("trouble", answer["trouble"])


def _ago(when: float) -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(when))}"


@main.command()
@click.argument("where")
def check(where: str) -> None:
    """Verify journals, cursors, outcomes and index; changes nothing. Exit status 1 on damage."""
    directory, _ = _find(where)
    report = check_directory(directory.path)
    for finding in report.findings:
        _out.print(f"{finding}")
    _out.print(f"{report}")
    sys.exit(0 if report.ok else 1)


@main.command(name="requeue")
@click.argument("where")
@click.argument("records", nargs=-1)
def requeue_command(where: str, records: tuple[str, ...]) -> None:
    """Queue quarantined records again (all of them, or the named files)."""
    directory, url = _find(where)
    left = 0
    with CheckpointEngine(open_store(url), directory=directory.path) as engine:
        for record in list_aside(directory):
            name = os.path.basename(record.path)
            if records and name not in records:
                continue
            try:
                outcome = requeue(engine, record.path)
            except LivingAIError as error:
                _out.print(f"{name}: {error}")
                left += 1
            else:
                _out.print(f"{name}: {outcome.status} {outcome.reason}")
                left += outcome.status == "quarantined"
    sys.exit(1 if left else 0)


@main.command()
@click.argument("where")
def stop(where: str) -> None:
    """Tell the service of a state directory to drain and end; agents may start it again."""
    import signal  # noqa: PLC0415 - only here

    directory, url = _find(where)
    if not owner_alive(directory.lock):
        _out.print("no service is running")
        return
    pid = ask_service(directory, url, "status")["pids"]["supervisor"]
    os.kill(int(pid), signal.SIGTERM)
    try:
        psutil.Process(int(pid)).wait(60)
    except psutil.NoSuchProcess:
        pass
    except psutil.TimeoutExpired:
        raise click.ClickException(
            f"process {pid} is still draining; see `livingai status`"
        ) from None
    _out.print("stopped")


if __name__ == "__main__":
    main()
