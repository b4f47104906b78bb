"""How much there is in a world, and what may happen in it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Plan:
    """What may happen in an interleaving, as probabilities."""

    agent_dies: float = 0.4
    service_dies: float = 0.4
    writer_dies: float = 0.4
    store_fails: float = 0.15
    disk_fails: float = 0.3
    successor: float = 0.6


@dataclass(frozen=True, slots=True)
class Size:
    """What is in a world. Small ones show most faults, and much faster."""

    hosts: int
    #: On each host.
    agents: int
    #: How many executions an interleaving has.
    executions: tuple[int, ...]
    #: How many calls each agent makes.
    calls: tuple[int, ...]
    #: How many agents read everything at the end.
    readers: int
    #: Interleavings that begin before all that was accepted is waited for.
    together: int
    plan: Plan = Plan()


LARGE = Size(1, 3, (1, 1, 2, 8), (0, 1, 2, 3, 4), readers=2, together=1)
WIDE = replace(LARGE, hosts=2, agents=2)
SMALL = Size(
    1, 2, (1,), (1, 1, 2), readers=1, together=6, plan=Plan(0.15, 0.15, 0.15, 0.1, 0.1, 0.6)
)
