"""What ``livingai doctor`` finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any


class Grade(IntEnum):
    """How urgent something is; ordered."""

    #: Good to know; nothing has to be done.
    NOTE = 0
    #: It works, and something will fail or be slow.
    WARNING = 1
    #: Something does not work now, or what is promised is not kept.
    ERROR = 2


@dataclass(frozen=True, slots=True)
class Ailment:
    """One thing that was found."""

    #: A word for programs; it stays the same from version to version.
    code: str
    grade: Grade
    what: str
    #: Why it matters.
    why: str
    #: The command, or else the act, that mends it; "" if nothing has to be done.
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "grade": self.grade.name.lower()}


@dataclass(slots=True)
class Examination:
    """All that was found, and facts by name (versions, places)."""

    facts: dict[str, str] = field(default_factory=dict)
    ailments: list[Ailment] = field(default_factory=list)

    def find(self, code: str, grade: Grade, what: str, why: str, mend: str = "") -> None:
        """Note something."""
        self.ailments.append(Ailment(code, grade, what, why, mend))

    @property
    def worst(self) -> Grade:
        """The most urgent of all."""
        return max((each.grade for each in self.ailments), default=Grade.NOTE)

    def to_json(self) -> dict[str, Any]:
        """As plain values; the fields are those of docs/CLI.md."""
        return {
            "worst": self.worst.name.lower(),
            "facts": self.facts,
            "found": [each.to_json() for each in self.ailments],
        }
