"""What a process of agents measures, save by save, and sends to its parent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from livingai import Outcome


@dataclass(slots=True)
class Seen:
    """The measurements of a process; points in time are of CLOCK_MONOTONIC, in nanoseconds. The
    lists of saves have one entry per save, in the order in which the saves began."""

    #: Number of the save among those of its agent, from 0.
    steps: list[int] = field(default_factory=list)
    began_ns: list[int] = field(default_factory=list)
    held_ns: list[int] = field(default_factory=list)
    #: How long the agent had been ready before the save began: an event loop that others block.
    waited_ms: list[float] = field(default_factory=list)
    #: From the save to its outcome; -1 while there is none.
    latency_ms: list[float] = field(default_factory=list)
    bare_ns: list[int] = field(default_factory=list)
    lag_ns: list[int] = field(default_factory=list)
    idle_lag_ns: list[int] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    raw_bytes: int = 0
    cpu_s: float = 0.0
    #: When the last save had returned, and when the last outcome was there.
    accepted_ns: int = 0
    ended_ns: int = 0
    #: When each twentieth of the first agent's steps was done.
    parts_ns: list[int] = field(default_factory=list)

    def saved(self, step: int, began_ns: int, held_ns: int, waited_ms: float) -> int:
        """Note a save that has returned; its number."""
        self.steps.append(step)
        self.began_ns.append(began_ns)
        self.held_ns.append(held_ns)
        self.waited_ms.append(waited_ms)
        self.latency_ms.append(-1.0)
        return len(self.steps) - 1

    def settled(self, number: int, outcome: Outcome) -> None:
        """Note the outcome of save ``number``."""
        self.latency_ms[number] = outcome.latency_ms
        self.outcomes[str(outcome.status)] += 1
