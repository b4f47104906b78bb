"""What a check of a state directory finds: a list of findings, and counts of what was looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    #: Records, or what was promised about them, may be lost.
    ERROR = "error"
    #: Nothing is lost.
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; ``where`` is a path relative to the state directory."""

    severity: Severity
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}"


@dataclass(slots=True)
class Report:
    """The findings of a check, and how much it has read.

    The keys of ``counts``: journals, alive (journals with a living owner), segments, records,
    waiting (records without an outcome), damaged, indexed (slots of the hot cache), quarantined,
    litter (files that a crash left).
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        """The findings that are errors."""
        return [f for f in self.findings if f.severity is Severity.ERROR]

    def error(self, where: str, what: str) -> None:
        """Note an error."""
        self.findings.append(Finding(Severity.ERROR, where, what))

    def notice(self, where: str, what: str) -> None:
        """Note something that is no error."""
        self.findings.append(Finding(Severity.NOTICE, where, what))

    def __str__(self) -> str:
        counts = self.counts
        verdict = "ok" if self.ok else f"{len(self.errors)} errors"
        return (
            f"{verdict}: {counts['journals']} journals ({counts['alive']} with a living owner), "
            f"{counts['records']} records ({counts['waiting']} not stored yet, "
            f"{counts['damaged']} damaged), {counts['quarantined']} quarantined"
        )
