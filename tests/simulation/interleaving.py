"""One interleaving: a few executions, and what agents do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.agent import SimAgent
from tests.simulation.script import Script
from tests.support.history import History

if TYPE_CHECKING:
    from tests.simulation.world import World


class Interleaving:
    """A few executions, what is done with them, and what came of it."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.history = History()
        chance = world.chance
        count = chance.choice(world.size.executions)
        self.executions = [f"run-{world.seed}-{number}-{n}" for n in range(count)]
        self.scripts = [self.script(world, agent) for agent in world.agents]
        # A race of first writes, watched by readers, or programs of a few calls each.
        lengths, reads = ((1, 1, 2, 3), 6) if chance.random() < 0.5 else (world.size.calls, 2)
        for script in self.scripts:
            script.begin(chance.choice(lengths), reads=reads)

    def script(self, world: World, agent: SimAgent) -> Script:
        """What an agent does in it."""
        return Script(world.scheduler, agent, self.executions, self.history)

    @property
    def over(self) -> bool:
        """Whether every agent has done what it had to do."""
        return all(script.over for script in self.scripts)
