"""States that grow as an agent's do: a chat as JSON, a few messages longer at each step.

Deterministic: equal (source, seed, agent, growth) give equal bytes, on any machine where the source
is the generator. All is made before a clock starts. Every agent says the same things in an order of
its own, which no codec here can profit from, since each agent's states are encoded by themselves.

The generator's text shrinks with zstd like real chats do (2.4 times at 5 KB, 2.8 at 100 KB and
more). Recorded runs, chained, are at hand as well; those of one small domain repeat themselves, so
they shrink about 7 times and flatter the figures.
"""

from __future__ import annotations

import collections
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from livingai.demo.generator import Prose
from livingai.demo.runs import load_runs, recorded_files

Source = Literal["generated", "recorded"]

#: Distinct bytes that agents draw on; a state beyond this repeats itself.
_POOL_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Growth:
    """``steps`` states, the first of about ``first_bytes``, the last of about ``last_bytes``. With
    ``window`` the oldest messages are left out as new ones come, as in a window of context; else
    each state begins with the one before."""

    steps: int
    first_bytes: int
    last_bytes: int
    window: bool = False

    def target_bytes(self, step: int) -> int:
        """The size that state ``step`` (from 0) should at least have."""
        share = step / max(1, self.steps - 1)
        return round(self.first_bytes + (self.last_bytes - self.first_bytes) * share)


class Workload:
    """The states of any number of agents."""

    def __init__(self, source: Source, seed: int) -> None:
        """Raises FileNotFoundError when recorded runs are asked for and there are none."""
        self._seed = seed
        groups = _recorded() if source == "recorded" else _generated(seed)
        #: Conversations, as encoded messages.
        self._groups = [[json.dumps(message).encode() for message in group] for group in groups]

    def _messages(self, agent: int) -> Iterator[bytes]:
        rng = random.Random(f"livingai/{self._seed}/{agent}")
        while True:
            order = list(range(len(self._groups)))
            rng.shuffle(order)
            yield from itertools.chain.from_iterable(self._groups[number] for number in order)

    def states(self, agent: int, growth: Growth) -> list[bytes]:
        """The states of ``agent``, each a JSON list of messages."""
        messages = self._messages(agent)
        parts: collections.deque[bytes] = collections.deque()
        size = 0
        states = []
        for step in range(growth.steps):
            target = growth.target_bytes(step)
            grown = False
            while size < target or not grown:
                part = next(messages)
                parts.append(part)
                size += len(part) + 1
                grown = True
            while growth.window and size - len(parts[0]) - 1 >= target:
                size -= len(parts.popleft()) + 1
            states.append(b"[" + b",".join(parts) + b"]")
        return states


def _generated(seed: int) -> list[list[dict[str, object]]]:
    """Conversations of a few turns."""
    messages = Prose(f"workload/{seed}").messages()
    groups: list[list[dict[str, object]]] = []
    size = 0
    while size < _POOL_BYTES:
        group = list(itertools.islice(messages, 10))
        size += sum(len(json.dumps(message)) for message in group)
        groups.append(group)
    return groups


def _recorded() -> list[list[dict[str, object]]]:
    """Recorded runs; the instructions, which are the same in each, precede the first."""
    paths = recorded_files()
    if not paths:
        raise FileNotFoundError("there are no recorded runs here; use --source generated")
    runs = [run for path in paths for run in load_runs(path, 1000)]
    groups = [[message for message in run if message.get("role") != "system"] for run in runs]
    return [group for group in groups if group]
