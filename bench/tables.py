"""The figures in the terminal: one table per tier, or more where there are many columns."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.figures import Figures, Spread
from bench.results import Results, summary_of
from bench.rows import ROWS, short, title_of
from bench.stores import SQLITE, Target

#: The most columns beside each other.
_COLUMNS: Final = 5


def _cell(spread: Spread | None, factor: float) -> str:
    if spread is None:
        return "–"
    values = (spread.median, spread.least, spread.most)
    middle, least, most = (short(value * factor) for value in values)
    return middle if least == most else f"{middle} [dim]{least}–{most}[/dim]"


def print_results(console: Console, results: Results) -> None:
    """A table per tier and number of processes; a column per mode, median (least–most) over the
    runs."""
    for tier, processes in dict.fromkeys((s.tier, s.processes) for s in results):
        chosen = [s for s in results if (s.tier, s.processes) == (tier, processes)]
        for begin in range(0, len(chosen), _COLUMNS):
            part = {s: summary_of(results[s]) for s in chosen[begin : begin + _COLUMNS]}
            table = Table(title=title_of(asdict(tier), processes), title_justify="left")
            table.add_column("", no_wrap=True)
            for setting in part:
                table.add_column(setting.name, justify="right")
            for key, title, factor in ROWS:
                found = [spreads.get(key) for spreads in part.values()]
                if any(found):
                    table.add_row(title, *(_cell(spread, factor) for spread in found))
            console.print(table)


def print_comparison(console: Console, results: Results) -> None:
    """A sentence per tier, mode and store: held and total against SQLite's, and what is in time."""
    medians = {s: summary_of(runs) for s, runs in results.items() if not s.peer}
    for setting, figures in medians.items():
        usual = medians.get(replace(setting, target=Target(SQLITE)))
        if (
            setting.target.name == SQLITE
            or usual is None
            or setting.mode == "burst"
            or setting.stop
        ):
            continue
        extra = f", {setting.processes} processes" if setting.processes > 1 else ""
        held, total = (figures[n].median / usual[n].median for n in ("held_p50_ms", "total_s"))
        console.print(
            f"{setting.tier.name}, {setting.name}{extra}: "
            f"{figures['in_time_share'].median:.2%} stored within {setting.budget_ms:g} ms "
            f"(SQLite {usual['in_time_share'].median:.2%}), held {held:.2f} and total {total:.2f} "
            "times SQLite's",
            soft_wrap=True,
        )


def print_reads(console: Console, reads: Figures) -> None:
    """The table of reads."""
    table = Table(title="reads of the newest state, µs", title_justify="left")
    table.add_column("")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    for key in reads:
        name, _, kind = key.rpartition(" ")
        if kind == "p50_us":
            table.add_row(name, f"{reads[key]:.1f}", f"{reads[f'{name} p99_us']:.1f}")
    console.print(table)
