"""``livingai top``: processes, queue and service level on a live screen."""

from __future__ import annotations

from typing import Final, Literal

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from livingai.cli import output
from livingai.cli.live import Seconds, ticks, until_stopped
from livingai.cli.place import store_option
from livingai.cli.where import find
from livingai.inspection.health import Health, Verdict, health_of
from livingai.inspection.processes import ProcessWatch, Usage
from livingai.inspection.rates import Rates
from livingai.protocol.status import ServiceStatus

#: Seconds that the service has for an answer; the screen stands still meanwhile.
_PATIENCE_S: Final = 2.0
_STYLES: Final = {
    Verdict.HEALTHY: "green", Verdict.TROUBLE: "bold red", Verdict.UNREACHABLE: "yellow",
}  # fmt: skip


@click.command()
@store_option
@click.argument("seconds", type=Seconds(), default=1.0, metavar="[SECONDS]")
def top(store: str, seconds: float) -> None:
    """Show processes, queue and outcomes on a live screen, anew every SECONDS (1), until Ctrl-C.

    CPU is of one processor; CPU and memory of processes in another container are not seen. Needs a
    terminal: `livingai stat` and `livingai status --watch` do not.
    """
    if not output.is_terminal():
        raise click.UsageError("it needs a terminal; use `livingai stat`, or `status --watch`.")
    view = find(store)
    watch = ProcessWatch(view)
    before: ServiceStatus | None = None
    console = Console()
    with until_stopped(), Live(console=console, screen=True, auto_refresh=False) as live:
        for passed in ticks(seconds):
            health = health_of(view, _PATIENCE_S)
            now = health.status
            rates = Rates.between(before, now, passed) if before and now and passed else None
            uses = watch.look(now.pids if now is not None else None)
            live.update(screen_of(health, rates, uses), refresh=True)
            before = now


def screen_of(health: Health, rates: Rates | None, uses: list[Usage]) -> Group:
    """All that the screen shows. What comes from processes or the store is text without markup."""
    verdict = Text.assemble(
        "livingai  ", (str(health.verdict), _STYLES[health.verdict]), "  ",
        output.printable(health.store),
    )  # fmt: skip
    lines = [verdict, Text(_queue(health)), Text(_level(health, rates))]
    if health.trouble:
        lines.append(Text(f"trouble: {output.printable(health.trouble)}", style="bold red"))
    return Group(*lines, Text(""), _processes(uses))


def _queue(health: Health) -> str:
    parts = [f"queue {health.waiting} records"]
    if health.status is not None:
        flow = health.status.flow
        if flow.queued:
            parts.append(f"the oldest for {output.duration(flow.oldest_s)}")
        parts.append(f"not synced {output.size(flow.unsynced_bytes)}")
        parts.append(f"agents {health.status.agents}")
    parts.append(f"quarantined {len(health.quarantined)}")
    return ", ".join(parts)


def _level(health: Health, rates: Rates | None) -> str:
    """The service level: how many of all saves met their budget."""
    if health.status is None:
        return "no service answers"
    outcomes = health.status.outcomes
    total = sum(outcomes.values())
    met = f"{outcomes.get('met', 0) / total:.1%}" if total else "-"
    text = f"met {met} of {total} since its start"
    if rates is not None:
        text += (
            f"; now {rates.saves:.0f} saves/s, {rates.met:.0f} met/s, {rates.late:.0f} late/s, "
            f"{rates.commits:.0f} commits/s, {output.size(rates.raw_bytes)}/s as "
            f"{output.size(rates.stored_bytes)}/s"
        )
    return text


def _processes(uses: list[Usage]) -> Table:
    table = Table(box=None, pad_edge=False, expand=False)
    for head, least in (("PROCESS", 11), ("PID", 7), ("CPU %", 6), ("RSS", 8)):
        side: Literal["left", "right"] = "left" if head == "PROCESS" else "right"
        # The least widths: else a long command takes the room of all others.
        table.add_column(head, justify=side, no_wrap=True, min_width=least)
    table.add_column("COMMAND", no_wrap=True, overflow="ellipsis")
    for use in uses:
        table.add_row(
            use.role, str(use.pid),
            "" if use.cpu_percent is None else f"{use.cpu_percent:.1f}",
            "" if use.rss_bytes is None else output.size(use.rss_bytes),
            Text(output.printable(use.command)),
        )  # fmt: skip
    return table
