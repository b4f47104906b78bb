"""The command line: ``livingai serve``, ``status``, ``check``, ``requeue``, ``stop``."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click
import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from livingai._version import __version__
from livingai.check import check_directory
from livingai.cli_runs import import_runs
from livingai.config import EngineConfig
from livingai.engine import CheckpointEngine
from livingai.errors import LivingAIError, ServiceUnavailableError
from livingai.queue.directory import MANIFEST, StateDirectory
from livingai.queue.lock import owner_alive
from livingai.requeue import list_aside, requeue
from livingai.service import Service, ask_service
from livingai.stores.base import Store
from livingai.stores.opening import open_store
from livingai.stores.retention import Retention

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
    with CheckpointEngine(_store_of(where, url), directory=directory.path) as engine:
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


@main.command(name="prune")
@click.argument("where")
@click.option("--keep-last", type=int, help="Keep so many checkpoints of each execution.")
@click.option("--max-age", type=float, help="Drop checkpoints older than so many days.")
@click.option("--expire", type=float, help="Delete executions untouched for so many days.")
@click.option("--status", "statuses", multiple=True, help="Only executions of this status.")
@click.option("--prefix", default="", help="Only executions whose id begins so (a tenant).")
def prune_command(
    where: str,
    keep_last: int | None,
    max_age: float | None,
    expire: float | None,
    statuses: tuple[str, ...],
    prefix: str,
) -> None:
    """Drop old checkpoints; never one that another still needs. Agents may go on writing."""
    policy = Retention(keep_last, _days(max_age), _days(expire), statuses, prefix)
    policy.validate()
    with _engine(where) as engine:
        before = engine.size_sync()
        pruned = engine.prune_sync(policy)
        after = engine.size_sync()
    _out.print(
        f"dropped {pruned.checkpoints} checkpoints ({pruned.blob_bytes} bytes) and "
        f"{pruned.executions} executions; the store went from {before} to {after} bytes"
    )


@main.command()
@click.argument("where")
@click.argument("execution_id")
def delete(where: str, execution_id: str) -> None:
    """Delete an execution for good."""
    with _engine(where) as engine:
        _out.print(f"deleted {engine.delete_sync(execution_id)} nodes of {execution_id}")


@main.command()
@click.argument("where")
@click.argument("execution_id")
@click.argument("new_id")
def fork(where: str, execution_id: str, new_id: str) -> None:
    """Copy an execution under a new id."""
    with _engine(where) as engine:
        _out.print(f"copied {engine.fork_sync(execution_id, new_id)} nodes to {new_id}")


@main.command()
@click.argument("source")
@click.argument("target")
@click.option("--prefix", default="", help="Only executions whose id begins so.")
def copy(source: str, target: str, prefix: str) -> None:
    """Copy everything from store SOURCE to store TARGET; run it again to resume or catch up."""
    from livingai.stores.copying import copy_store  # noqa: PLC0415 - only here

    _drain(open_store(source))
    with open_store(source) as have, open_store(target) as want, Progress(console=_out) as bar:
        task = bar.add_task("executions", total=None)
        copied = copy_store(
            have, want, prefix=prefix, progress=lambda info, done: bar.update(task, completed=done)
        )
        bar.update(task, total=copied.executions, completed=copied.executions)
    _out.print(
        f"{copied.executions} executions, {copied.nodes} nodes, {copied.checkpoints} checkpoints "
        f"({copied.blob_bytes} bytes) are in {want.url}; checksums agree"
    )


def _drain(store: Store) -> None:
    """Have what waits in the source's journals stored, if there are any."""
    directory = StateDirectory(store.default_directory())
    if directory.journal_paths():
        with CheckpointEngine(store) as engine:
            engine.drain_sync()


def _engine(where: str) -> CheckpointEngine:
    directory, url = _find(where)
    return CheckpointEngine(_store_of(where, url), directory=directory.path)


def _store_of(where: str, url: str) -> Store:
    """The store that was named, which may bring credentials; else the one of the directory."""
    if os.path.isfile(os.path.join(where, MANIFEST)):
        return open_store(url)
    return open_store(where)


def _days(days: float | None) -> float | None:
    return None if days is None else days * 86_400


main.add_command(import_runs)


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
