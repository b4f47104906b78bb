"""The command line. Commands on the service are here: ``serve``, ``status``, ``check``,
``requeue``, ``stop``.

Output is plain lines, never wrapped and never marked up, so that it can be piped; progress goes to
standard error, and only to a terminal.
"""

from __future__ import annotations

import livingai._linux  # noqa: F401  # isort: skip

import os
import signal
import sys
import time
from typing import Any

import click
import psutil

from livingai._version import __version__
from livingai.cli.relocate import relocate
from livingai.cli.runs import import_runs
from livingai.cli.store import copy, delete, fork, prune
from livingai.cli.where import Commands, engine_on, find
from livingai.config import EngineConfig
from livingai.errors import LivingAIError, ServiceUnavailableError
from livingai.inspection.check import check_directory
from livingai.inspection.quarantine import list_aside, requeue
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_alive, owner_identity
from livingai.queue.waiting import waiting_records
from livingai.service.report import read_report
from livingai.service.service import Service, ask_service
from livingai.stores.base import Store
from livingai.stores.opening import open_store

#: Seconds that ``status`` and ``stop`` wait for an answer.
_PATIENCE_S = 5.0


@click.group(cls=Commands)
@click.version_option(__version__)
def main() -> None:
    """Write-behind persistence for AI agents.

    WHERE is a state directory, or the file or URL of the store it belongs to.
    """


@main.command()
@click.argument("store", metavar="STORE")
@click.option("--directory", help="State directory (default: derived from the store).")
@click.option(
    "--compressors",
    type=click.IntRange(1, 64),
    help="Compressor processes (default: one per core).",
)
@click.option(
    "--writers",
    type=click.IntRange(1, 64),
    help="Writer processes (default: what the store takes).",
)
@click.option(
    "--codec",
    default="auto",
    show_default=True,
    help="How states are stored.",
    type=click.Choice(["auto", "zstd", "zlib", "raw"]),
)
def serve(
    store: str, directory: str | None, compressors: int | None, writers: int | None, codec: str
) -> None:
    """Run the writer service in the foreground until Ctrl-C, SIGTERM or SIGHUP; it drains first.

    A service that an agent has started hands over to it. Exit status 4 if it ends before the store
    has everything; what is left waits in the state directory.
    """
    config = EngineConfig(compressors=compressors, writers=writers, codec=codec)
    _serve(open_store(store), directory, config)


def _serve(store: Store, directory: str | None, config: EngineConfig) -> None:
    service = Service(store, directory, config, verbose=True, served=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        service.start()
        _say(f"serving {store.url} in {service.directory.path}; Ctrl-C drains and stops")
        code = service.wait()
    except KeyboardInterrupt:
        try:
            _say("draining; Ctrl-C again stops at once, what is left stays in the journals")
            service.stop()
        except KeyboardInterrupt:
            service.stop(drain=False)
        code = service.exit_code
    if code:
        _say(
            f"ended with {service.unstored()} records unstored; they wait in "
            f"{service.directory.path}, the next service stores them"
        )
    sys.exit(code)


def _say(text: str) -> None:
    """Print, even where nobody reads any more: a terminal that hung up must not keep ``serve`` from
    draining."""
    try:
        click.echo(text)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@main.command()
@click.argument("where")
def status(where: str) -> None:
    """Say what the service of a state directory is doing, and what is quarantined."""
    directory, url = find(where)
    lines: list[tuple[str, str]] = [("state directory", directory.path)]
    try:
        lines += _described(ask_service(directory, url, "status", timeout_s=_PATIENCE_S))
    except ServiceUnavailableError:
        if owner_alive(directory.lock):
            pid = owner_identity(directory.lock).get("pid")
            what = f"process {pid} does not answer (stopped, or starting, or ending)"
        else:
            what = "not running (the next save or read starts it)"
        lines += [("store", url), ("service", what), *_without_service(directory)]
    aside = list_aside(directory)
    lines.append(("quarantined", str(len(aside))))
    for label, value in lines:
        click.echo(f"{label:16} {value}".rstrip())
    for record in aside:
        name = f"{record.execution_id} {record.node_id}" if record.execution_id else "unreadable"
        click.echo(f"  {os.path.basename(record.path)}  {name}: {record.reason}")


def _without_service(directory: StateDirectory) -> list[tuple[str, str]]:
    """What can be seen without a service: how the last one was, and what waits."""
    report = read_report(directory.path)
    lines = [("journals", str(len(directory.journal_paths())))]
    waiting = waiting_records(directory)
    hint = "; `livingai serve`, or the next agent's service, stores them" if waiting else ""
    lines.append(("not stored yet", f"{waiting} records{hint}"))
    if report.ended_at:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.ended_at))
        left = f", with {report.left} records unstored" if report.left else ""
        lines.append(("last service", f"ended {when}{left}"))
    if report.trouble:
        lines.append(("trouble", report.trouble))
    return lines


def _described(answer: dict[str, Any]) -> list[tuple[str, str]]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer["started_at"]))
    lines = [("store", str(answer["store"])), ("service", f"running since {since}")]
    for role, pid in answer["pids"].items():
        listed = ", ".join(map(str, pid)) if isinstance(pid, list) else str(pid or "not started")
        lines.append((f"  {role}", listed))
    dead = answer["journals_of_dead_owners"]
    counts = ", ".join(f"{count} {name}" for name, count in answer["outcomes"].items() if count)
    lines += [
        ("agents", str(answer["agents"])),
        ("journals", f"{answer['journals']} ({dead} of dead owners)"),
        ("on their way", f"{answer['inflight']} ({answer['inflight_bytes']} bytes)"),
        ("outcomes", counts or "none yet"),
    ]
    if "compression" in answer:  # a service of an earlier version does not say
        lines.append(("compression", str(answer["compression"])))
    if answer.get("version", __version__) != __version__:
        lines.append(("version", f"{answer['version']}, this command has {__version__}"))
    if answer["trouble"]:
        lines.append(("trouble", str(answer["trouble"])))
    return lines


@main.command()
@click.argument("where")
def check(where: str) -> None:
    """Verify journals, cursors, outcomes and index; changes nothing. Exit status 1 on damage."""
    directory, _ = find(where)
    report = check_directory(directory.path)
    for finding in report.findings:
        click.echo(f"{finding}")
    click.echo(f"{report}")
    sys.exit(0 if report.ok else 1)


@main.command(name="requeue")
@click.argument("where")
@click.argument("records", nargs=-1)
def requeue_command(where: str, records: tuple[str, ...]) -> None:
    """Queue quarantined records again (all of them, or the named files).

    Exit status 1 if one of them is quarantined still.
    """
    directory, _ = find(where)
    aside = {os.path.basename(record.path): record for record in list_aside(directory)}
    named = [os.path.basename(record) for record in records] or list(aside)
    unknown = [name for name in named if name not in aside]
    if unknown:
        raise click.ClickException(
            f"not in quarantine: {', '.join(unknown)}; `livingai status` lists what is"
        )
    if not named:
        click.echo("nothing is quarantined")
        return
    left = 0
    with engine_on(where) as engine:
        for name in named:
            try:
                outcome = requeue(engine, aside[name].path)
            except LivingAIError as error:
                click.echo(f"{name}: {error}")
                left += 1
            else:
                click.echo(f"{name}: {outcome.status} {outcome.reason}".rstrip())
                left += outcome.status == "quarantined"
    sys.exit(1 if left else 0)


@main.command()
@click.argument("where")
def stop(where: str) -> None:
    """Tell the service of a state directory to drain and end; agents may start it again."""
    directory, url = find(where)
    if not owner_alive(directory.lock):
        click.echo("no service is running")
        return
    answer = ask_service(directory, url, "status", timeout_s=_PATIENCE_S)
    pid = int(answer["pids"]["supervisor"])
    try:
        supervisor = psutil.Process(pid)
        supervisor.terminate()
        supervisor.wait(60)
    except psutil.NoSuchProcess:
        pass  # it has ended in this moment
    except psutil.TimeoutExpired:
        raise click.ClickException(
            f"process {pid} is still draining; see `livingai status`"
        ) from None
    left = waiting_records(directory)
    click.echo(f"stopped; {left} records wait in {directory.path}" if left else "stopped")


for _command in (prune, delete, fork, copy, import_runs, relocate):
    main.add_command(_command)
