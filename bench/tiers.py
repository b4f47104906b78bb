"""What is measured: tiers (how many agents, how large) and modes (how they write).

* closed: every agent waits for the outcome of its save before the next one.
* paced: every agent saves at its times, whatever has become of the saves before.
* burst: every agent saves as fast as it can and waits at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.workload import Growth

Mode = Literal["closed", "paced", "burst"]
MODES: Final[tuple[Mode, ...]] = ("closed", "paced", "burst")


@dataclass(frozen=True, slots=True)
class Tier:
    """``agents`` agents; ``interval_ms`` is the time between two saves of one agent when paced."""

    name: str
    agents: int
    growth: Growth
    interval_ms: float = 100
    #: Those that it is measured in.
    modes: tuple[Mode, ...] = ("closed", "paced")
    #: Of them, those that are measured only when they are asked for: they take long.
    on_request: tuple[Mode, ...] = ()
    #: Numbers of agent processes that it is measured with, unless one is asked for.
    processes: tuple[int, ...] = (1,)
    #: The store is stopped under load, for two thirds of the time that the steps take.
    outage: bool = False
    #: The most runs of it, unless more are asked for.
    runs: int | None = None
    #: Also what a save costs in each quarter of the steps, as history grows; with one agent only.
    by_quarter: bool = False
    #: It has one more run, with probes: the event loop's lag, and bare writes.
    probed: bool = False
    #: Each how many saves the bare write is measured; it costs as much as the save's own write.
    probe_every: int = 1

    @property
    def paced_s(self) -> float:
        """How long the steps of an agent take when paced."""
        return self.growth.steps * self.interval_ms / 1000

    def quick(self) -> Tier:
        """The same with a fifth of the steps."""
        growth = replace(self.growth, steps=max(2, self.growth.steps // 5))
        return replace(self, growth=growth)


TIERS: Final = {
    tier.name: tier
    for tier in (
        Tier("single", 1, Growth(500, 500, 250_000), modes=("closed",), probed=True),
        Tier("paced", 1, Growth(500, 500, 250_000), interval_ms=10, modes=("paced",), probed=True),
        Tier("production", 50, Growth(20, 5_000, 100_000), interval_ms=100, probed=True),
        Tier(
            "hyperscale", 150, Growth(10, 775_000, 793_000), interval_ms=1000, probed=True,
            probe_every=3, on_request=("paced",),
        ),
        Tier(
            "fleet", 48, Growth(20, 5_000, 100_000), modes=("closed",), processes=(1, 2, 4, 8),
            runs=2,
        ),
        Tier("tiny", 20, Growth(5_000, 1_000, 1_000, window=True), modes=("burst",), runs=2),
        Tier("window", 10, Growth(100, 100_000, 100_000, window=True), modes=("closed",)),
        Tier("long", 1, Growth(2_000, 1_000, 640_000), modes=("closed",), by_quarter=True, runs=2),
        Tier("outage", 20, Growth(150, 5_000, 100_000), modes=("paced",), outage=True, runs=1),
    )
}  # fmt: skip
