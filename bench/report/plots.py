"""The plots: PNG images, drawn with matplotlib (the extra ``bench``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bench.curves import SHARES
from bench.report.cells import ROLES, Cell, Group, cpu_by_role
from bench.rows import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1f2933"
#: Of livingai: on SQLite, and on other stores in turn.
OURS: Final = ("#0b6e4f", "#41a67e", "#8fcfb3", "#0f4c5c", "#5f8fa3")
PEERS: Final = (
    "#c05621",
    "#6b46c1",
    "#b7791f",
    "#2b6cb0",
    "#b83280",
    "#718096",
    "#9b2c2c",
    "#2c7a7b",
)
#: Of CPU time by role.
ROLE_COLORS: Final = {
    "agents": "#0b6e4f", "dispatcher": "#5f8fa3", "compressors": "#b7791f", "writers": "#c05621",
    "others": "#cbd5e0", "server": "#6b46c1",
}  # fmt: skip
_STYLE: Final[Any] = {
    "font.size": 9, "font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5b1", "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e7eb", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "axes.titlesize": 10, "axes.titlelocation": "left",
    "legend.frameon": False, "legend.fontsize": 8,
}  # fmt: skip


class PlotsMissingError(ImportError):
    """There is no matplotlib."""


def _figure(columns: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def draw(plot: Any, *arguments: Any) -> bytes:
    """The PNG of one of the functions below.

    Raises:
        PlotsMissingError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise PlotsMissingError("plots need matplotlib: pip install 'livingai[bench]'") from error
    image = io.BytesIO()
    with mpl.rc_context(_STYLE):
        plot(*arguments).savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def looks(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """How the line of each column is drawn: ours strong, peers thin, limits dashed."""
    found: dict[str, dict[str, Any]] = {}
    ours = peers = 0
    for cell in cells:
        if cell.column in found:
            continue
        if cell.ours:
            found[cell.column] = {"color": OURS[ours % len(OURS)], "linewidth": 2.2, "zorder": 5}
            ours += 1
        elif cell.limit:
            found[cell.column] = {"color": "#9aa5b1", "linewidth": 1.1,
                                  "linestyle": ("--", ":", "-.")[len(found) % 3]}  # fmt: skip
        else:
            found[cell.column] = {"color": PEERS[peers % len(PEERS)], "linewidth": 1.3}
            peers += 1
    return found


def distributions(group: Group) -> Figure:
    """How long saves held the agent, and how long it took from when it was ready to save until its
    state was stored: the share of saves that took no longer."""
    figure, axes = _figure(2, 9.6, 3.6)
    budget_ms = group.cells[0].setting["budget_ms"]
    styles = looks(group.cells)
    panels = (("held_ms", "held, ms"), ("stored_ms", "from ready to save until stored, ms"))
    for axis, (curve, label) in zip(axes, panels, strict=True):
        for cell in group.cells:
            if curve in cell.curves:
                values = [max(value, 1e-3) for value in cell.curves[curve]]
                shares = [share * 100 for share in SHARES]
                axis.plot(values, shares, label=cell.column, **styles[cell.column])
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlabel(label)
        axis.set_ylim(0, 101)
    axes[0].set_ylabel("share of all saves, %")
    axes[1].axvline(budget_ms, color="#9aa5b1", linewidth=0.8)
    axes[1].annotate(f"{budget_ms:g} ms", (budget_ms, 101), xytext=(0, 2),
                     textcoords="offset points", fontsize=8, ha="center")  # fmt: skip
    figure.suptitle(f"{title_of(group.tier, group.processes)}, {group.mode}", x=0.01, ha="left",
                    fontsize=10)  # fmt: skip
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    return figure


def cpu_bars(group: Group) -> Figure:
    """CPU time per save, by role."""
    cells = list(reversed(group.cells))
    figure, (axis,) = _figure(1, 9.6, 1.1 + 0.3 * len(cells))
    left = [0.0] * len(cells)
    names = [cell.column for cell in cells]
    found = [cpu_by_role(cell) for cell in cells]
    for role, title in ROLES.items():
        values = [by_role.get(role, 0.0) for by_role in found]
        if any(values):
            axis.barh(names, values, left=left, color=ROLE_COLORS[role], height=0.62, label=title)
            left = [so_far + value for so_far, value in zip(left, values, strict=True)]
    for number, total in enumerate(left):
        axis.annotate(f"{total:.2f}", (total, number), xytext=(4, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axis.set_xlabel("CPU per save, ms (user and system, all processes)")
    axis.set_xlim(0, max(left) * 1.08)
    axis.grid(visible=False, axis="y")
    axis.set_title(f"{title_of(group.tier, group.processes)}, {group.mode}")
    figure.legend(loc="outside right upper")
    return figure


def throughput(groups: Sequence[Group]) -> Figure:
    """Saves per second against the number of agent processes."""
    figure, (axis,) = _figure(1, 6.4, 3.6)
    cells = [cell for group in groups for cell in group.cells]
    for column, style in looks(cells).items():
        points = [
            (group.processes, cell.median("saves_per_s") or 0.0)
            for group in groups
            for cell in group.cells
            if cell.column == column
        ]
        axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=column, **style)
    axis.set_xlabel("agent processes")
    axis.set_xticks([group.processes for group in groups])
    axis.set_ylabel("saves stored per second")
    axis.set_ylim(bottom=0)
    axis.set_title(f"{title_of(groups[0].tier, 1)}, {groups[0].mode}")
    axis.legend()
    return figure


def along_steps(group: Group) -> Figure:
    """CPU time and bytes per save as the history grows."""
    figure, axes = _figure(2, 9.6, 3.4)
    styles = looks(group.cells)
    steps = group.tier["growth"]["steps"]
    panels = (
        ("save_cpu_ms", "CPU per save, ms", 1.0),
        ("stored_bytes", "stored per save, KB", 1e-3),
    )
    for axis, (curve, label, factor) in zip(axes, panels, strict=True):
        for cell in group.cells:
            values = [value * factor for value in cell.curves.get(curve, [])]
            middles = [(number + 0.5) * steps / len(values) for number in range(len(values))]
            if values:
                axis.plot(middles, values, label=cell.column, **styles[cell.column])
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    axes[0].legend()
    figure.suptitle(f"{title_of(group.tier, group.processes)}, {group.mode}", x=0.01, ha="left",
                    fontsize=10)  # fmt: skip
    return figure


def outage(group: Group) -> Figure:
    """Saves accepted and stored while what stores was stopped."""
    cells = [cell for cell in group.cells if "outage_s" in cell.curves]
    figure, axes = _figure(len(cells), max(6.4, 3.6 * len(cells)), 3.4)
    for axis, cell in zip(axes, cells, strict=True):
        begin_s, end_s = cell.curves["outage_s"]
        axis.axvspan(begin_s, end_s, color="#f0e6d8", linewidth=0)
        times = cell.curves["time_s"]
        axis.plot(times, cell.curves["accepted"], color=OURS[0], linewidth=2.0, label="accepted")
        axis.plot(times, cell.curves["stored"], color=PEERS[0], linewidth=1.6, label="stored")
        axis.set_xlabel("time, s (shaded: stopped)")
        axis.set_title(cell.column)
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper left")
    axes[0].set_ylabel("saves so far")
    return figure
