"""What the examples of a state machine have come to: a machine that only passes proves little."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple


class Floor(NamedTuple):
    """The least of something: in all examples of a run together, and in how many of them any."""

    total: int
    examples: int = 0


class Explored:
    """Sums of what examples have counted, and the floors that these have to reach."""

    def __init__(self, **floors: Floor) -> None:
        self._floors = floors
        self._examples = 0
        self._totals: Counter[str] = Counter()
        self._examples_with: Counter[str] = Counter()

    def add(self, counts: Counter[str]) -> None:
        """An example is over."""
        self._examples += 1
        self._totals += counts
        self._examples_with.update(name for name, count in counts.items() if count)

    def report(self) -> str:
        """All sums as a table."""
        lines = [f"{self._examples} examples"]
        for name in sorted(self._totals.keys() | self._floors.keys()):
            total, examples = self._totals[name], self._examples_with[name]
            line = f"  {name:24}{total:8} in {examples:4} examples"
            if name in self._floors:
                floor = self._floors[name]
                line += f"  (at least {floor.total} in {floor.examples})"
            lines.append(line)
        return "\n".join(lines)

    def check(self) -> None:
        """Print the sums, and fail if one is below its floor."""
        report = self.report()
        print(f"\n{report}")
        low = [
            name
            for name, floor in self._floors.items()
            if self._totals[name] < floor.total or self._examples_with[name] < floor.examples
        ]
        assert not low, f"the examples have not come to enough {', '.join(low)}:\n{report}"
