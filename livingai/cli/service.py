"""Commands on the service of a state directory: ``serve``, ``status``, ``stop``."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from typing import Any

import click

from livingai.cli import output
from livingai.cli.ending import end_service
from livingai.cli.health import exit_status, print_health
from livingai.cli.live import Seconds, fresh_screen, ticks, until_stopped
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import config_of, find, store_at
from livingai.config import DEFAULT_DRAIN_S, EngineConfig
from livingai.inspection.directories import is_directory
from livingai.inspection.health import health_of
from livingai.service.notify import ManagerSocket
from livingai.service.orphans import Orphans
from livingai.service.progress import ProgressReports
from livingai.service.service import Service
from livingai.stores.base import Store
from livingai.stores.opening import open_store

#: Seconds that ``status`` and ``stop`` wait for an answer.
_PATIENCE_S = 5.0


@click.command(cls=PlacedCommand)
@store_argument("store")
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
    help="Codec of stored states (default: auto).",
    type=click.Choice(["auto", "zstd", "zlib", "raw"]),
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Serve /metrics for Prometheus, /livez and /readyz there (needs livingai[metrics]).",
)
@click.option(
    "--metrics-file",
    metavar="NAME.prom",
    help="Write metrics there every 15 s, for node_exporter's textfile collector.",
)
@click.option(
    "--log-format",
    help="How the service writes its log (default: text).",
    type=click.Choice(["text", "json"]),
)
@click.option(
    "--drain-timeout",
    "drain_s",
    type=click.FloatRange(0, 1e9),
    help=f"Seconds to store what is queued when asked to end (default: {DEFAULT_DRAIN_S:g}).",
)
def serve(store: str, directory: str | None, **settings: Any) -> None:
    """Run the writer service in the foreground until Ctrl-C, SIGTERM or SIGHUP.

    STORE may be left out where LIVINGAI_STORE names it: other users of the machine can read a
    password that is on a command line.

    It stores what is queued before it ends. If an agent has already started a service for this
    store, that one drains and ends, and this one takes its place. Exit status 4 if it ends before
    everything is stored; the rest waits in the state directory.

    Where a service manager runs it (systemd with Type=notify), that hears when it is ready, how it
    is, and that its work goes on.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    config = replace(config_of(store), **given)
    if is_directory(store):
        directory = directory or store
    _serve(store_at(store) if is_directory(store) else open_store(store), directory, config)


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


@click.command(cls=PlacedCommand)
@store_argument("where")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a look, in one line.")
@click.option("--watch", type=Seconds(), is_flag=False, flag_value=2.0, metavar="[SECONDS]",
              help="Look again every so many seconds (2), until Ctrl-C.")  # fmt: skip
def status(where: str, as_json: bool, watch: float | None) -> None:
    """Show what the service of a state directory is doing, and what is quarantined.

    Exit status 0 if it is healthy, 1 if it is in trouble or something is quarantined, 3 if no
    service answers. With --watch, that of the last look.
    """
    view = find(where)
    health = health_of(view, _PATIENCE_S)
    if watch is None:
        print_health(health, as_json=as_json)
    else:
        with until_stopped():
            for passed in ticks(watch):
                health = health_of(view, _PATIENCE_S) if passed else health
                if not as_json:
                    fresh_screen()
                print_health(health, as_json=as_json)
                if not (as_json or output.is_terminal()):
                    click.echo("")
    sys.exit(exit_status(health))


@click.command(cls=PlacedCommand)
@store_argument("where")
def stop(where: str) -> None:
    """Have the service of a state directory store what is queued, and end it.

    The next save or read of an agent starts it again. To be run where the service runs: in another
    container its processes have other numbers, or none.
    """
    view = find(where)
    if view.owner() is None:
        click.echo("no service is running")
        return
    if not end_service(view):
        raise click.ClickException("the service is still draining; see `livingai status`")
    left = view.waiting()
    click.echo(f"stopped; {left} records wait in {view.path}" if left else "stopped")
