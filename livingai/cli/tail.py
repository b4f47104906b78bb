"""``livingai tail``: outcomes as they come."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import click

from livingai.cli import output
from livingai.cli.live import until_stopped
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import find
from livingai.inspection.following import Gap, follow
from livingai.outcome import OutcomeStatus
from livingai.protocol.watched import WatchedOutcome

#: What a person should look at.
_BAD: Final = frozenset({OutcomeStatus.LATE, OutcomeStatus.FENCED, OutcomeStatus.QUARANTINED})
#: As statuses are coloured.
_MARKS: Final[dict[str, str]] = {
    OutcomeStatus.MET: "success", OutcomeStatus.SUPERSEDED: "success",
    OutcomeStatus.LATE: "running", OutcomeStatus.FENCED: "failed",
    OutcomeStatus.QUARANTINED: "failed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Filter:
    """Which outcomes are shown."""

    outcomes: tuple[str, ...]
    prefix: str
    #: Not faster than so.
    slower_ms: float
    bad: bool

    def __call__(self, seen: WatchedOutcome) -> bool:
        """Whether this one is."""
        return (
            (not self.outcomes or seen.outcome in self.outcomes)
            and seen.execution_id.startswith(self.prefix)
            and seen.latency_ms >= self.slower_ms
            and (not self.bad or seen.outcome in _BAD)
        )


@click.command(cls=PlacedCommand)
@store_argument("store")
@click.option("--outcome", "outcomes", multiple=True,
              type=click.Choice(list(map(str, OutcomeStatus))),
              help="Only these outcomes; may be repeated.")  # fmt: skip
@click.option("--bad", is_flag=True, help="Only late, fenced and quarantined ones.")
@click.option("--prefix", default="", help="Only of runs whose id begins with this.")
@click.option("--slower", type=click.FloatRange(min=0), default=0.0, metavar="MS",
              help="Only those that took so many milliseconds or longer.")  # fmt: skip
@click.option("--count", "-n", type=click.IntRange(min=1), help="End after so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def tail(
    store: str, outcomes: tuple[str, ...], bad: bool, prefix: str, slower: float,
    count: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the outcomes of saves as they come, those of all agents, until Ctrl-C.

    The service notes them only while somebody watches. When it ends, the next one is waited for.
    What could not be shown is said on standard error.
    """
    view = find(store)
    wanted = Filter(outcomes, prefix, slower, bad)
    shown = 0
    with until_stopped():
        for seen in follow(view):
            if isinstance(seen, Gap):
                click.echo(output.printable(seen.what), err=True)
            elif wanted(seen):
                _print(seen, as_json=as_json)
                shown += 1
                if shown == count:
                    return


def as_object(seen: WatchedOutcome) -> dict[str, Any]:
    """An outcome as ``--json`` prints it."""
    return seen._asdict()


def _print(seen: WatchedOutcome, *, as_json: bool) -> None:
    if as_json:
        output.json_line(as_object(seen))
        return
    what = " ".join(filter(None, (seen.type, seen.status)))
    cells = [
        _clock(seen.at), f"{seen.outcome:<11}", f"{seen.level:<7}",
        f"{seen.latency_ms:>9.1f} ms", f"{output.size(seen.record_bytes):>9}", f"{what:<15}",
        seen.execution_id or "(unknown)", seen.node_id, seen.reason,
    ]  # fmt: skip
    output.line(output.printable("  ".join(cells)).rstrip(), mark=_MARKS.get(seen.outcome, ""))


def _clock(at: float) -> str:
    """Local time of day, with milliseconds."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
    except (OverflowError, ValueError, OSError):
        return "?"
