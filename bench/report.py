"""The report: one table per tier for people, one JSON file for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.figures import Figures, Spread, over_runs
from bench.run import Setting
from bench.stores import SQLITE, Target
from bench.tiers import Tier

Results = dict[Setting, list[Figures]]
#: Of a setting, what stays out of a report: a path of this machine, a URL with its password.
_PRIVATE: Final = {"directory", "target", "packages"}


def _short(value: float) -> str:
    """A figure with about three digits."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


#: (figure, what the table calls it, factor)
_ROWS: Final[list[tuple[str, str, float]]] = [
    ("saves", "saves", 1),
    ("held_p50_ms", "held p50, ms", 1),
    ("held_p99_ms", "held p99, ms", 1),
    ("held_max_ms", "held max, ms", 1),
    ("bare_p50_ms", "bare pwritev p50, ms", 1),
    ("held_to_bare", "held p50 / bare p50", 1),
    ("in_time_share", "stored within budget, %", 100),
    ("ready_in_time_share", "  from ready to save, %", 100),
    ("total_s", "total, s", 1),
    ("accepted_per_s", "accepted per second", 1),
    ("stored_per_s", "stored per second", 1),
    ("probe_s", "  of it bare writes, s", 1),
    ("latency_p50_ms", "save to stored p50, ms", 1),
    ("latency_p99_ms", "save to stored p99, ms", 1),
    ("latency_max_ms", "save to stored max, ms", 1),
    ("ready_p99_ms", "ready to stored p99, ms", 1),
    ("lag_p99_ms", "event-loop lag p99, ms", 1),
    ("lag_max_ms", "event-loop lag max, ms", 1),
    ("idle_lag_p99_ms", "  of an idle loop p99, ms", 1),
    ("raw_bytes", "states, raw, MB", 1e-6),
    ("stored_bytes", "states, stored, MB", 1e-6),
    ("file_bytes", "the store in all, MB", 1e-6),
    ("written_bytes", "file pages made dirty, MB", 1e-6),
    ("service_memory_bytes", "the service's memory, MB", 1e-6),
    ("save_cpu_ms", "cpu per save, ms", 1),
    ("probed_save_cpu_ms", "cpu per save and its probes, ms", 1),
    ("agents_cpu_s", "cpu agents, s", 1),
    ("dispatcher_cpu_s", "cpu dispatcher, s", 1),
    ("compressors_cpu_s", "cpu compressors, s", 1),
    ("writers_cpu_s", "cpu writer, s", 1),
    *((f"save_cpu_q{n}_ms", f"cpu per save, quarter {n} of the steps, ms", 1) for n in range(1, 5)),
    *((f"stored_q{n}_bytes", f"stored per save, quarter {n}, KB", 1e-3) for n in range(1, 5)),
    ("recovered_of", "agents killed", 1),
    ("recovered_cache", "  recovered, hot cache", 1),
    ("recovered_store", "  recovered, store", 1),
]


def _cell(spread: Spread | None, factor: float) -> str:
    if spread is None:
        return "–"
    values = (spread.median, spread.least, spread.most)
    middle, least, most = (_short(value * factor) for value in values)
    return middle if least == most else f"{middle} [dim]{least}–{most}[/dim]"


def print_results(console: Console, results: Results) -> None:
    """A table per tier and number of processes; a column per mode, median (least–most) over the
    runs."""
    for tier, processes in dict.fromkeys((s.tier, s.processes) for s in results):
        chosen = {
            s: over_runs(runs)
            for s, runs in results.items()
            if (s.tier, s.processes) == (tier, processes)
        }
        table = Table(title=_title(tier, processes), title_justify="left")
        table.add_column("", no_wrap=True)
        for setting in chosen:
            table.add_column(setting.name, justify="right", no_wrap=True)
        for key, title, factor in _ROWS:
            found = [spreads.get(key) for spreads in chosen.values()]
            if any(found):
                table.add_row(title, *(_cell(spread, factor) for spread in found))
        console.print(table)


def _title(tier: Tier, processes: int) -> str:
    growth = tier.growth
    agents = "1 agent" if tier.agents == 1 else f"{tier.agents} agents"
    return (
        f"{tier.name}: {agents} × {growth.steps} states, "
        f"{growth.first_bytes / 1000:g} to {growth.last_bytes / 1000:g} KB"
        + (", a window" if growth.window else "")
        + (f", in {processes} processes" if processes > 1 else "")
    )


def print_comparison(console: Console, results: Results) -> None:
    """A sentence per tier, mode and store: held and total against SQLite's, and what is in time."""
    medians = {s: over_runs(runs) for s, runs in results.items() if s.peer == "livingai"}
    for setting, figures in medians.items():
        usual = medians.get(replace(setting, target=Target(SQLITE)))
        if setting.target.name == SQLITE or usual is None or setting.mode == "burst":
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


def write_json(
    path: str,
    machine: dict[str, Any],
    results: Results,
    reads: Figures | None,
    cold: list[Figures],
) -> None:
    """All figures of all runs, their medians and ranges, and the machine."""
    document = {
        "machine": machine,
        "results": [
            {
                "setting": {
                    **{key: value for key, value in asdict(s).items() if key not in _PRIVATE},
                    "store": s.target.name,
                },
                "summary": {name: asdict(spread) for name, spread in over_runs(runs).items()},
                "runs": runs,
            }
            for s, runs in results.items()
        ],
        "reads": reads,
        "cold": {name: asdict(spread) for name, spread in over_runs(cold).items()}
        if cold
        else None,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
