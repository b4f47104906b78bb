"""How ``livingai status`` prints what it found."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Final

import click

from livingai._version import __version__
from livingai.cli import output
from livingai.cli.exit_status import ExitStatus
from livingai.inspection.health import Health, Presence, Verdict
from livingai.protocol.status import ServiceStatus

_STATUSES: Final = {
    Verdict.HEALTHY: ExitStatus.WELL,
    Verdict.TROUBLE: ExitStatus.PROBLEM,
    Verdict.UNREACHABLE: ExitStatus.UNREACHABLE,
}


def exit_status(health: Health) -> int:
    """The exit status that says it in a number."""
    return int(_STATUSES[health.verdict])


def print_health(health: Health, *, as_json: bool) -> None:
    """Print it as lines for a person, or as one for a program."""
    if as_json:
        output.json_line(health.to_json())
        return
    lines = [("state directory", health.directory)]
    if health.status is not None:
        lines += _described(health.status)
    else:
        lines += _without_service(health)
    lines.append(("quarantined", str(len(health.quarantined))))
    for label, value in lines:
        click.echo(f"{label:16} {output.printable(value)}".rstrip())  # whole, whatever the width
    for record in health.quarantined:
        name = f"{record.execution_id} {record.node_id}" if record.execution_id else "unreadable"
        text = f"{os.path.basename(record.path)}  {name}: {record.reason}"
        click.echo(f"  {output.printable(text)}")


def _without_service(health: Health) -> list[tuple[str, str]]:
    """What can be seen while no service answers: how the last one ended, and what waits."""
    what = "not running (the next save or read starts it)"
    if health.presence is Presence.SILENT:
        what = f"process {health.silent_pid} does not answer (stopped, or starting, or ending)"
    hint = "; `livingai serve`, or the next agent's service, stores them" if health.waiting else ""
    lines = [
        ("store", health.store),
        ("service", what),
        ("journals", str(health.journals)),
        ("not stored yet", f"{health.waiting} records{hint}"),
    ]
    report = health.report
    if report.ended_at:
        left = f", with {report.left} records unstored" if report.left else ""
        lines.append(("last service", f"ended {output.moment(report.ended_at)}{left}"))
    if report.trouble:
        lines.append(("trouble", report.trouble))
    return lines


def _described(now: ServiceStatus) -> list[tuple[str, str]]:
    lines = [("store", now.store), ("service", f"running since {output.moment(now.started_at)}")]
    for each in fields(now.pids):
        pid = getattr(now.pids, each.name)
        listed = ", ".join(map(str, pid)) if isinstance(pid, tuple) else str(pid or "not started")
        lines.append((f"  {each.name}", listed))
    counts = ", ".join(f"{count} {name}" for name, count in now.outcomes.items() if count)
    lines += [
        ("agents", str(now.agents)),
        ("journals", f"{now.journals} ({now.journals_of_dead_owners} of dead owners)"),
        ("on their way", f"{now.inflight} ({now.inflight_bytes} bytes)"),
        ("waiting", _waiting(now)),
        ("outcomes", counts or "none yet"),
    ]
    if now.compression:  # a service of an earlier version does not say
        lines.append(("compression", now.compression))
    if now.version not in ("", __version__):
        lines.append(("version", f"{now.version}, this command has {__version__}"))
    if now.trouble:
        lines.append(("trouble", now.trouble))
    return lines


def _waiting(now: ServiceStatus) -> str:
    flow = now.flow
    if not flow.queued:
        return "nothing"
    return (
        f"{flow.queued} records, the oldest for {output.duration(flow.oldest_s)}; "
        f"{output.size(flow.unsynced_bytes)} of all not synced yet"
    )
