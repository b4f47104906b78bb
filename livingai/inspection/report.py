"""What a check of a state directory finds: a list of findings, and counts of what was looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    #: Something that was promised does not hold.
    ERROR = "error"
    #: Worth knowing; nothing is lost.
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
    """What a check has found, and how much it has looked at: ``counts`` has journals, alive,
    segments, records, waiting (without an outcome yet), damaged, indexed (slots of the hot cache),
    quarantined, litter."""

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
