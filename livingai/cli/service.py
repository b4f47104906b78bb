"""Commands on the service of a state directory: ``serve``, ``status``, ``stop``."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import fields

import click
import psutil

from livingai._version import __version__
from livingai.cli.where import find
from livingai.config import DEFAULT_DRAIN_S, EngineConfig
from livingai.errors import ServiceUnavailableError
from livingai.inspection.directories import DirectoryView
from livingai.inspection.quarantine import list_aside
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import STATUS
from livingai.service.notify import ManagerSocket
from livingai.service.orphans import Orphans
from livingai.service.progress import ProgressReports
from livingai.service.service import Service
from livingai.stores.base import Store
from livingai.stores.opening import open_store

#: Seconds that ``status`` and ``stop`` wait for an answer.
_PATIENCE_S = 5.0


@click.command()
@click.argument("store", metavar="STORE", envvar="LIVINGAI_STORE")
@click.option("--directory", help="State directory (default: derived from the store).")
@click.option(
    "--compressors",
    type=click.IntRange(1, 64),
    help="Compressor processes (default: one per core).",
)
@click.option(
    "--writers",
    type=click.IntRange(1, 64),
    help="Writer processes (default: what suits the store).",
)
@click.option(
    "--codec",
    default="auto",
    show_default=True,
    help="Codec of stored states.",
    type=click.Choice(["auto", "zstd", "zlib", "raw"]),
)
@click.option(
    "--drain-timeout",
    "drain_s",
    type=click.FloatRange(0, 1e9),
    default=DEFAULT_DRAIN_S,
    show_default=True,
    help="Seconds to store what is queued when asked to end.",
)
def serve(
    store: str, directory: str | None, compressors: int | None, writers: int | None, codec: str,
    drain_s: float,
) -> None:  # fmt: skip
    """Run the writer service in the foreground until Ctrl-C, SIGTERM or SIGHUP.

    STORE may be left out where LIVINGAI_STORE names it: other users of the machine can read a
    password that is on a command line.

    It stores what is queued before it ends. If an agent has already started a service for this
    store, that one drains and ends, and this one takes its place. Exit status 4 if it ends before
    everything is stored; the rest waits in the state directory.

    Where a service manager runs it (systemd with Type=notify), that hears when it is ready, how it
    is, and that its work goes on.
    """
    config = EngineConfig(compressors=compressors, writers=writers, codec=codec, drain_s=drain_s)
    _serve(open_store(store), directory, config)


def _serve(store: Store, directory: str | None, config: EngineConfig) -> None:
    manager = ManagerSocket.from_environment()
    service = Service(store, directory, config, verbose=True, served=True)
    reports = ProgressReports(manager, service.status)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        service.start()
        if os.getpid() == 1:
            Orphans(service.supervisor_pid).adopt()
        reports.ready()
        _say(f"serving {store.url} in {service.directory.path}; Ctrl-C drains and stops")
        code = service.wait()
    except KeyboardInterrupt:
        try:
            reports.stopping()
            _say("draining; Ctrl-C again stops at once, what is left stays in the journals")
            service.stop()
        except KeyboardInterrupt:
            service.stop(drain=False)
        code = service.exit_code
    left = service.unstored() if code else 0
    reports.close(f"ended; {left} records wait in the journals" if left else "ended")
    if code:
        _say(
            f"ended with {left} records unstored; they wait in {service.directory.path}, the next "
            "service stores them"
        )
    sys.exit(code)


def _say(text: str) -> None:
    """Print. If standard output is closed (a terminal that hung up), discard this and all later
    output, so that ``serve`` still drains."""
    try:
        click.echo(text)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@click.command()
@click.argument("where")
def status(where: str) -> None:
    """Show what the service of a state directory is doing, and what is quarantined."""
    view = find(where)
    lines: list[tuple[str, str]] = [("state directory", view.path)]
    try:
        lines += _described(view.ask(STATUS, timeout_s=_PATIENCE_S))
    except ServiceUnavailableError:
        if owner := view.owner():
            what = f"process {owner.pid} does not answer (stopped, or starting, or ending)"
        else:
            what = "not running (the next save or read starts it)"
        lines += [("store", view.store_url), ("service", what), *_without_service(view)]
    aside = list_aside(view.directory)
    lines.append(("quarantined", str(len(aside))))
    for label, value in lines:
        click.echo(f"{label:16} {value}".rstrip())
    for record in aside:
        name = f"{record.execution_id} {record.node_id}" if record.execution_id else "unreadable"
        click.echo(f"  {os.path.basename(record.path)}  {name}: {record.reason}")


def _without_service(view: DirectoryView) -> list[tuple[str, str]]:
    """What can be seen while no service answers: how the last one ended, and what waits."""
    report = view.report()
    lines = [("journals", str(view.journals()))]
    waiting = view.waiting()
    hint = "; `livingai serve`, or the next agent's service, stores them" if waiting else ""
    lines.append(("not stored yet", f"{waiting} records{hint}"))
    if report.ended_at:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.ended_at))
        left = f", with {report.left} records unstored" if report.left else ""
        lines.append(("last service", f"ended {when}{left}"))
    if report.trouble:
        lines.append(("trouble", report.trouble))
    return lines


def _described(now: ServiceStatus) -> list[tuple[str, str]]:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now.started_at))
    lines = [("store", now.store), ("service", f"running since {since}")]
    for each in fields(now.pids):
        pid = getattr(now.pids, each.name)
        listed = ", ".join(map(str, pid)) if isinstance(pid, tuple) else str(pid or "not started")
        lines.append((f"  {each.name}", listed))
    counts = ", ".join(f"{count} {name}" for name, count in now.outcomes.items() if count)
    lines += [
        ("agents", str(now.agents)),
        ("journals", f"{now.journals} ({now.journals_of_dead_owners} of dead owners)"),
        ("on their way", f"{now.inflight} ({now.inflight_bytes} bytes)"),
        ("outcomes", counts or "none yet"),
    ]
    if now.compression:  # a service of an earlier version does not say
        lines.append(("compression", now.compression))
    if now.version not in ("", __version__):
        lines.append(("version", f"{now.version}, this command has {__version__}"))
    if now.trouble:
        lines.append(("trouble", now.trouble))
    return lines


@click.command()
@click.argument("where")
def stop(where: str) -> None:
    """Have the service of a state directory store what is queued, and end it.

    The next save or read of an agent starts it again. To be run where the service runs: in another
    container its processes have other numbers, or none.
    """
    view = find(where)
    if view.owner() is None:
        click.echo("no service is running")
        return
    pid = view.ask(STATUS, timeout_s=_PATIENCE_S).pids.supervisor
    here = view.supervisor()
    if here not in (pid, None):  # None: it has just ended
        raise click.ClickException(
            f"the service runs in another container, where its supervisor is process {pid}: run "
            "`livingai stop` there"
        )
    try:
        if here is not None:
            supervisor = psutil.Process(pid)
            supervisor.terminate()
            supervisor.wait(60)
    except psutil.NoSuchProcess:
        pass  # it ended before the signal
    except psutil.TimeoutExpired:
        raise click.ClickException(
            f"process {pid} is still draining; see `livingai status`"
        ) from None
    left = view.waiting()
    click.echo(f"stopped; {left} records wait in {view.path}" if left else "stopped")
