"""Tables of the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from bench.curves import SHARES
from bench.report.cells import ROLES, Cell, Group, cpu_by_role
from bench.rows import ROWS, short

#: Of the quantiles, what the tables beside the distributions have.
_SHARES: Final = (0.1, 0.5, 0.9, 0.95, 0.99, 1.0)
#: Rows of the short table of a group.
_SHORT: Final = (
    "save_cpu_ms", "agents_save_cpu_ms", "held_p50_ms", "held_p99_ms", "held_to_bare",
    "in_time_share", "later_in_time_share", "latency_p99_ms", "total_s", "accepted_per_s",
    "stored_per_s", "stored_bytes", "stored_ratio", "outage_saves", "outage_held_p99_ms",
    "drained_s",
)  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table; the first column has the names of the rows."""
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table>{said}<thead><tr>{cells}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def spread_text(spread: Mapping[str, float] | None, factor: float = 1.0) -> str:
    """Median, with the range where there is one."""
    if spread is None:
        return "–"
    middle, least, most = (short(spread[name] * factor) for name in ("median", "least", "most"))
    return middle if least == most else f"{middle} ({least}–{most})"


def brief(group: Group) -> str:
    """The figures that matter most: a row per cell, a column per figure."""
    rows = [
        (key, title.strip(), factor)
        for key, title, factor in ROWS
        if key in _SHORT and any(cell.median(key) for cell in group.cells)
    ]
    lines = [
        [cell.column, *(_median(cell, key, factor) for key, _, factor in rows)]
        for cell in group.cells
    ]
    return table(["", *(title for _, title, _ in rows)], lines, "medians of the runs")


def _median(cell: Cell, key: str, factor: float) -> str:
    value = cell.median(key)
    return "–" if value is None else short(value * factor)


def cpu(group: Group) -> str:
    """CPU time per save by role: a row per cell."""
    found = {cell.column: cpu_by_role(cell) for cell in group.cells}
    roles = [role for role in ROLES if any(role in by_role for by_role in found.values())]
    rows = [
        [column, *(short(by_role[role]) if role in by_role else "–" for role in roles)]
        for column, by_role in found.items()
    ]
    return table(["", *(ROLES[role] for role in roles)], rows, "CPU per save, ms, medians")


def figures(group: Group) -> str:
    """A group's figures: a row per figure, a column per cell."""
    rows = [
        [title.strip(), *(spread_text(cell.summary.get(key), factor) for cell in group.cells)]
        for key, title, factor in ROWS
        if any(cell.median(key) for cell in group.cells)
    ]
    return table(["median (range)", *(cell.column for cell in group.cells)], rows)


def quantiles(group: Group) -> str:
    """What the plot of distributions shows: a row per cell."""
    marks = ["max" if share == 1 else f"p{share * 100:g}" for share in _SHARES]
    places = [SHARES.index(share) for share in _SHARES]
    columns = list(itertools.product(("held_ms", "stored_ms"), places))
    rows = [
        [cell.column, *(short(cell.curves[curve][at]) for curve, at in columns)]
        for cell in group.cells
        if "held_ms" in cell.curves
    ]
    head = ["", *(f"held {mark}" for mark in marks), *(f"stored {mark}" for mark in marks)]
    return table(head, rows, "ms, medians of the runs' quantiles")


def throughput(groups: Sequence[Group]) -> str:
    """Saves per second: a row per column of the groups."""
    columns = dict.fromkeys(cell.column for group in groups for cell in group.cells)

    def rate(column: str, group: Group) -> str:
        cell = next((cell for cell in group.cells if cell.column == column), None)
        return spread_text(cell.summary.get("saves_per_s")) if cell else "–"

    rows = [[column, *(rate(column, group) for group in groups)] for column in columns]
    head = ["agent processes", *(str(group.processes) for group in groups)]
    return table(head, rows, "saves stored per second")


def along_steps(group: Group) -> str:
    """What the plot along the steps shows, a row per twentieth of them."""
    lines: list[tuple[str, list[float]]] = []
    for cell in group.cells:
        for curve, title, factor in (("save_cpu_ms", "CPU per save, ms", 1.0),
                                     ("stored_bytes", "stored per save, KB", 1e-3)):  # fmt: skip
            if curve in cell.curves:
                values = [value * factor for value in cell.curves[curve]]
                lines.append((f"{cell.column}: {title}", values))
    parts = max((len(values) for _, values in lines), default=0)
    steps = group.tier["growth"]["steps"]
    rows = [
        [f"{steps * number // parts + 1}–{steps * (number + 1) // parts}",
         *(short(values[number]) if number < len(values) else "–" for _, values in lines)]
        for number in range(parts)
    ]  # fmt: skip
    return table(["steps", *(title for title, _ in lines)], rows)


def over_time(cell: Cell) -> str:
    """An outage over time, a row per tenth of it."""
    curves = cell.curves
    step = max(1, (len(curves["time_s"]) - 1) // 12)
    rows = [
        [
            f"{curves['time_s'][at]:.1f}",
            *(f"{curves[name][at]:.0f}" for name in ("accepted", "stored")),
        ]
        for at in range(0, len(curves["time_s"]), step)
    ]
    return table(["time, s", "accepted so far", "stored so far"], rows, cell.column)


def pairs(title: str, facts: Mapping[str, Any]) -> str:
    """Names and values."""
    return table([title, ""], [[name, str(value)] for name, value in facts.items()])
