"""What the steps write: made-up messages, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from bench.tiers import TIERS
from bench.workload import Workload
from livingai.demo.generator import Prose

#: Words of a message, about 0.4 KB.
_WORDS = 60


@cache
def texts(count: int) -> Sequence[str]:
    """So many texts of a message."""
    prose = Prose("frameworks")
    return [prose.text(_WORDS) for _ in range(count)]


@cache
def production_states() -> Sequence[Sequence[bytes]]:
    """The states of each agent of the benchmark's tier ``production``."""
    tier = TIERS["production"]
    workload = Workload("generated", 1)
    return [workload.states(agent, tier.growth) for agent in range(tier.agents)]


def production_state(number: int) -> tuple[int, bytes]:
    """An agent, and a state of it; agents take turns, and the states of each grow."""
    states = production_states()
    step, agent = divmod(number, len(states))
    return agent, states[agent][step % len(states[agent])]
