"""What is measured: tiers (how many agents, how large) and modes (how they write)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.workload import Growth

Mode = Literal["closed", "paced"]
Peer = Literal["livingai", "sqlite"]

MODES: Final[tuple[Mode, ...]] = ("closed", "paced")


@dataclass(frozen=True, slots=True)
class Tier:
    """``agents`` agents; ``interval_ms`` is the time between two saves of one agent when paced."""

    name: str
    agents: int
    growth: Growth
    interval_ms: float
    #: Each how many saves the bare write is measured; it costs as much as the save's own write.
    probe_every: int = 1

    def quick(self) -> Tier:
        """The same with a fifth of the steps."""
        growth = replace(self.growth, steps=max(2, self.growth.steps // 5))
        return replace(self, growth=growth)


TIERS: Final = {
    tier.name: tier
    for tier in (
        Tier("single", 1, Growth(500, 500, 250_000), interval_ms=10),
        Tier("production", 50, Growth(20, 5_000, 100_000), interval_ms=100),
        Tier("hyperscale", 150, Growth(10, 775_000, 793_000), interval_ms=1000, probe_every=3),
    )
}
