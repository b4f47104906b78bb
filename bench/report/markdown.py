"""The table of README.md, from a document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.report.cells import Cell, Group, groups_of
from bench.results import Document
from bench.rows import short

#: (figure, what the table calls it, factor, unit)
_ROWS: Final = (
    ("held_p50_ms", "`save` holds the agent, p50, ms", 1.0, ""),
    ("held_p99_ms", "p99, ms", 1.0, ""),
    ("in_time_share", "stored within 50 ms", 100.0, " %"),
    ("later_in_time_share", "after each agent's first save", 100.0, " %"),
    ("total_s", "total, s", 1.0, ""),
    ("save_cpu_ms", "CPU per save, all processes, ms", 1.0, ""),
    ("agents_save_cpu_ms", "of it the agents, ms", 1.0, ""),
    ("stored_bytes", "states, stored, MB", 1e-6, ""),
    ("written_bytes", "file pages made dirty, MB", 1e-6, ""),
)


def readme_table(document: Document, peer: str) -> str:
    """Medians of livingai on SQLite, in brackets those of ``peer``; a column per group that has
    both. Empty if none has."""
    found = [(group, *pair) for group in groups_of(document) if (pair := _pair(group, peer))]
    if not found:
        return ""
    names = [_name(group) for group, _, _ in found]
    lines = [["SQLite", *names], ["---"] * (len(names) + 1)]
    lines += [
        [title, *(f"{_value(ours, key, factor, unit)} ({_value(theirs, key, factor, unit)})"
                  for _, ours, theirs in found)]
        for key, title, factor, unit in _ROWS
    ]  # fmt: skip
    recovered = [_recovered(ours) for _, ours, _ in found]
    lines.append(["recovered after a kill -9", *recovered])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _pair(group: Group, peer: str) -> tuple[Cell, Cell] | None:
    ours = _first(cell for cell in group.cells if cell.ours and cell.setting["store"] == "sqlite")
    theirs = _first(cell for cell in group.cells if cell.setting["peer"] == peer)
    return (ours, theirs) if ours and theirs else None


def _name(group: Group) -> str:
    growth, agents = group.tier["growth"], group.tier["agents"]
    return (
        f"{group.tier['name']}, {group.mode}: {agents} agent{'s' if agents > 1 else ''}, "
        f"{growth['steps']:,} states to {growth['last_bytes'] / 1000:g} KB"
    )


def _first(cells: Iterable[Cell]) -> Cell | None:
    return next(iter(cells), None)


def _value(cell: Cell, key: str, factor: float, unit: str) -> str:
    value = cell.median(key)
    return "–" if value is None else f"{short(value * factor)}{unit}"


def _recovered(cell: Cell) -> str:
    lowest = min(cell.summary[f"recovered_{where}"]["least"] for where in ("cache", "store"))
    return f"{lowest:.0f} of {cell.median('recovered_of'):.0f}"
