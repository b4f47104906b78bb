"""The cells of a document in an order for people: groups that are compared with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.results import Document

#: Processes whose CPU time is told apart, with the words for them.
ROLES: Final = {
    "agents": "agents", "dispatcher": "dispatcher", "compressors": "compressors",
    "writers": "writer", "others": "supervisor, reader", "server": "database server",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured of one setting."""

    setting: Mapping[str, Any]
    summary: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, list[float]]

    @property
    def column(self) -> str:
        """Its name beside others of the same tier and mode."""
        name: str = self.setting["column"]
        mode = self.setting["mode"]
        if self.ours:
            return name.replace(mode, "livingai", 1)
        return name.removesuffix(f", {mode}")

    @property
    def ours(self) -> bool:
        """Whether it is livingai, on whatever store."""
        return not self.setting["peer"]

    @property
    def limit(self) -> bool:
        """Whether it is a bare call."""
        return self.column.startswith("limit: ")

    def median(self, figure: str) -> float | None:
        """A figure's median over the runs; None if it was not measured."""
        spread = self.summary.get(figure)
        return None if spread is None else spread["median"]


def cpu_by_role(cell: Cell) -> dict[str, float]:
    """CPU time per save in ms, of the roles that took any: keys of :data:`ROLES`."""
    saves = cell.median("saves") or 1.0
    found = {role: (cell.median(f"{role}_cpu_s") or 0.0) * 1e3 / saves for role in ROLES}
    return {role: value for role, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Group:
    """Cells of one tier and mode, with one number of agent processes."""

    tier: Mapping[str, Any]
    mode: str
    processes: int
    cells: tuple[Cell, ...]

    @property
    def key(self) -> str:
        """A name for files and anchors."""
        processes = f"-{self.processes}" if self.processes > 1 else ""
        return f"{self.tier['name']}-{self.mode}{processes}"


def cells_of(document: Document) -> list[Cell]:
    """All cells."""
    return [
        Cell(each["setting"], each["summary"], each.get("curves", {}))
        for each in document["results"]
    ]


def groups_of(document: Document) -> Iterator[Group]:
    """The groups, in the document's order."""
    found: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells_of(document):
        setting = cell.setting
        key = (setting["tier"]["name"], setting["mode"], setting["processes"])
        found.setdefault(key, []).append(cell)
    for (_, mode, processes), cells in found.items():
        yield Group(cells[0].setting["tier"], mode, processes, tuple(cells))


def by_processes(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """By tier, the groups of tiers that were measured with several numbers of agent processes."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(f"{group.tier['name']}-{group.mode}", []).append(group)
    return {key: several for key, several in found.items() if len(several) > 1}
