"""One cell of the tables: what is measured, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bench.outage import Stop
from bench.peers.kinds import KINDS
from bench.stores import SQLITE, Target
from bench.tiers import Mode, Tier
from bench.workload import Source


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the tables."""

    tier: Tier
    mode: Mode
    #: A key of ``bench.peers.kinds.KINDS``; "" for livingai.
    peer: str
    processes: int
    source: Source
    seed: int
    directory: str | None
    target: Target
    #: Whether the loop's lag and bare writes are measured, too, which costs the agents CPU.
    probes: bool = False
    #: The folder with the peer's packages.
    packages: str = ""
    #: What is stopped for a while; "" where nothing is.
    stop: Stop | Literal[""] = ""
    budget_ms: float = 50.0

    @property
    def name(self) -> str:
        """Its column."""
        if self.peer:
            return f"{KINDS[self.peer].title}, {self.mode}"
        name = f"{self.mode}, {self.stop} stopped" if self.stop else self.mode
        return name if self.target.name == SQLITE else f"{name}, {self.target.name}"

    def probed(self) -> Setting:
        """The same with probes."""
        return replace(self, probes=True)

    def stopped(self, stop: Stop) -> Setting:
        """The same with something that is stopped for a while."""
        return replace(self, stop=stop)
