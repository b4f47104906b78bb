"""``livingai stat``: what the service does, one line a second."""

from __future__ import annotations

import shutil
import time
from typing import Any, Final

import click

from livingai.cli import output
from livingai.cli.live import Seconds, ticks, until_stopped
from livingai.cli.place import store_option
from livingai.cli.where import find
from livingai.errors import ServiceUnavailableError
from livingai.inspection.directories import DirectoryView
from livingai.inspection.rates import Rates
from livingai.protocol.status import ServiceStatus
from livingai.protocol.verbs import STATUS

#: Seconds that the service has for an answer.
_PATIENCE_S: Final = 5.0
#: Head and width of each column; the unit is in the second line.
_COLUMNS: Final = (
    ("saves", "/s", 8), ("met", "/s", 8), ("late", "/s", 8), ("other", "/s", 6),
    ("queue", "", 8), ("oldest", "", 7), ("unsynced", "", 9), ("commits", "/s", 7),
    ("raw", "/s", 9), ("stored", "/s", 9),
)  # fmt: skip


@click.command()
@store_option
@click.argument("seconds", type=Seconds(), default=1.0, metavar="[SECONDS]")
@click.argument("count", type=click.IntRange(min=1), required=False, metavar="[COUNT]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def stat(store: str, seconds: float, count: int | None, as_json: bool) -> None:
    """Show what the service does, a line every SECONDS (1), COUNT times or until Ctrl-C.

    saves: accepted; met, late: stored within their budget, or later; other: superseded, fenced,
    quarantined; queue: accepted and without an outcome; oldest: how long the oldest of them waits;
    unsynced: what a power loss would take now; raw, stored: states, and what the store was given
    for them.
    """
    view = find(store)
    before: ServiceStatus | None = None
    lines = 0
    with until_stopped():
        for passed in ticks(seconds):
            now = _status(view)
            if now is not None and before is not None and passed:
                rates = Rates.between(before, now, passed)
                if as_json:
                    output.json_line(_object(rates, passed))
                else:
                    _print(rates, lines)
                lines += 1
            elif passed and now is None:
                _nobody(as_json)
                lines += 1
            before = now
            if lines == count:
                return


def _status(view: DirectoryView) -> ServiceStatus | None:
    """None: there is no service now."""
    try:
        return view.ask(STATUS, timeout_s=_PATIENCE_S)
    except ServiceUnavailableError:
        return None


def _object(rates: Rates, seconds: float) -> dict[str, Any]:
    line: dict[str, Any] = {"at": time.time(), "service": "running", "seconds": round(seconds, 6)}
    return line | rates.to_json()


def _nobody(as_json: bool) -> None:
    if as_json:
        output.json_line({"at": time.time(), "service": "none"})
    else:
        click.echo("no service answers; agents start it when they need it", err=True)


def _print(rates: Rates, number: int) -> None:
    every = max(10, shutil.get_terminal_size().lines - 3) if output.is_terminal() else 0
    if number == 0 or (every and number % every == 0):
        for row in (0, 1):
            output.line(" ".join(f"{column[row]:>{column[2]}}" for column in _COLUMNS).rstrip())
    cells = (
        _number(rates.saves), _number(rates.met), _number(rates.late), _number(rates.other),
        str(rates.queued), output.duration(rates.oldest_s) if rates.queued else "-",
        output.size(rates.unsynced_bytes), _number(rates.commits), output.size(rates.raw_bytes),
        output.size(rates.stored_bytes),
    )  # fmt: skip
    output.line(
        " ".join(f"{cell:>{column[2]}}" for cell, column in zip(cells, _COLUMNS, strict=True))
    )


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"
