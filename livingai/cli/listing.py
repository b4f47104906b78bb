"""``livingai list``: which runs there are."""

from __future__ import annotations

import heapq
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

import click

from livingai.cli import output
from livingai.cli.place import looking_at, store_option
from livingai.inspection.view import RunsView
from livingai.node import Status
from livingai.protocol.executions import MAX_PAGE
from livingai.stores.base import ExecutionFilter, ExecutionInfo

_UNITS: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")
#: As JSON writes numbers; ``007``, ``nan`` and ``1_000`` are texts.
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_HEAD: Final = ("RUN", "STATUS", "NODES", "STATES", "STORED", "UPDATED", "TOOK", "ERROR")
_NUMBERS: Final = (2, 3, 4, 6)
#: What comes first: the newest, or the largest.
_SORTS: Final[dict[str, Callable[[ExecutionInfo], float]]] = {
    "updated": lambda run: run.updated_at,
    "created": lambda run: run.created_at,
    "nodes": lambda run: run.nodes,
    "states": lambda run: run.checkpoints,
    "stored": lambda run: run.stored_bytes,
    "took": lambda run: took(run) or 0.0,
}


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A moment: an age (``90s``, ``5min``, ``2h``, ``3d``) or an ISO date, in local time unless it
    says otherwise. Seconds since the Unix epoch."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, from what was typed; fails with a usage error that names the option."""
        if isinstance(value, float):
            return value
        if found := _AGE.fullmatch(str(value).strip()):
            return time.time() - float(found[1]) * _UNITS[found[2]]
        try:
            seconds = datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError, OSError):
            seconds = math.nan
        if not math.isfinite(seconds):
            self.fail(
                f"{value!r} is no age such as 90s, 5min, 2h or 3d, and no date such as 2026-11-28 "
                "or 2026-11-28T14:00.",
                param,
                ctx,
            )
        return seconds


class Pair(click.ParamType):  # type: ignore[type-arg]
    """``KEY=VALUE``; a value that is a number, true or false is meant as that, one in double quotes
    as text."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | int | float | bool]:
        """The pair; fails with a usage error that names the option."""
        key, sign, text = str(value).partition("=")
        if not sign or not key:
            self.fail(f"{value!r} is not KEY=VALUE.", param, ctx)
        return key, _plain(text)


def _plain(text: str) -> str | int | float | bool:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if not _NUMBER.fullmatch(text):
        return text
    return float(text) if set(text) & set(".eE") else int(text)


@click.command(name="list")
@store_option
@click.option("--status", "statuses", multiple=True, type=click.Choice(list(map(str, Status))),
              help="Only runs of this status; may be repeated.")  # fmt: skip
@click.option("--prefix", default="", help="Only runs whose id begins with this.")
@click.option("--query", "-q", default="", help="Only runs with this text in id or error.")
@click.option("--meta", multiple=True, type=Pair(),
              help="Only runs whose newest node has this metadata; may be repeated.")  # fmt: skip
@click.option("--since", type=Moment(), help="Only runs saved since: 5min, 2h, 3d, a date.")
@click.option("--before", type=Moment(), help="Only runs not saved since then.")
@click.option("--sort", type=click.Choice(["id", *_SORTS]), default="id", show_default=True,
              help="What comes first; all but id read every run.")  # fmt: skip
@click.option("--reverse", is_flag=True, help="The other way round (not with --sort id).")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True,
              help="At most so many runs.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--after", help="Only runs whose id comes behind this one (the next page).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_runs(
    *, store: str, statuses: tuple[str, ...], prefix: str, query: str, meta: tuple[Any, ...],
    since: float | None, before: float | None, sort: str, reverse: bool, limit: int,
    everything: bool, after: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List runs: their status, size, and when they were saved last.

    Without --sort a page is read from the store's index of ids, however many runs there are.
    """
    if reverse and sort == "id":
        raise click.UsageError("--reverse needs --sort updated, created, nodes, states, ...")
    where = None
    if statuses or meta or since is not None or before is not None:
        where = ExecutionFilter(statuses, since, before, dict(meta))
    most = None if everything else limit
    selection = Selection(where, prefix, query.casefold(), after, sort, reverse)
    with looking_at(store) as view:
        found = selection.of(view, None if most is None else most + 1)
    shown = found[:most]
    if as_json:
        for run in shown:
            output.json_line(as_object(run))
    elif shown:
        output.table(_HEAD, [_row(run) for run in shown], right=_NUMBERS)
    if not shown:
        click.echo("no runs" if after is None else "no more runs", err=True)
    if len(found) > len(shown):
        hint = f"--after {output.shell_word(shown[-1].execution_id)}" if sort == "id" else "--all"
        click.echo(f"there are more: {hint}, or --limit N", err=True)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which runs are listed, and in which order."""

    where: ExecutionFilter | None
    prefix: str
    #: In id or error, whatever the case.
    text: str
    after: str | None
    sort: str
    reverse: bool

    def of(self, view: RunsView, most: int | None) -> list[ExecutionInfo]:
        """At most so many of them."""
        if self.sort == "id" and not self.text and most is not None and most <= MAX_PAGE:
            return list(view.page(self.where, self.prefix, self.after, most))
        runs = view.executions(self.where, self.prefix, self.after)
        if self.text:
            runs = _with_text(runs, self.text)
        if self.sort == "id":
            return list(islice(runs, most))
        key = _SORTS[self.sort]
        if most is None:
            return sorted(runs, key=key, reverse=not self.reverse)
        return (heapq.nsmallest if self.reverse else heapq.nlargest)(most, runs, key=key)


def _with_text(runs: Iterable[ExecutionInfo], text: str) -> Iterator[ExecutionInfo]:
    return (run for run in runs if text in f"{run.execution_id}\n{run.error}".casefold())


def took(run: ExecutionInfo) -> float | None:
    """Seconds that the last life of a run took; None while it lasts, or where it is no run."""
    if run.entered_at is None or run.ended_at is None:
        return None
    return run.ended_at - run.entered_at


def as_object(run: ExecutionInfo) -> dict[str, Any]:
    """A run as ``--json`` prints it: the fields of :class:`~livingai.stores.base.ExecutionInfo`."""
    return asdict(run)


def _row(run: ExecutionInfo) -> tuple[str, ...]:
    if run.damage:
        return (run.execution_id, "damaged", "", "", "", "", "", run.damage)
    return (
        run.execution_id, run.status, str(run.nodes), str(run.checkpoints),
        output.size(run.stored_bytes), output.moment(run.updated_at),
        output.duration(took(run)), run.error,
    )  # fmt: skip
