"""What a check of a state directory finds: a list of findings, and counts of what was looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from livingai.inspection.findings import FINDINGS, Code, Loss, Severity

__all__ = ["Code", "Finding", "Loss", "Report", "Severity"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. ``where`` is a path relative to the state directory, or the store's
    URL; :data:`~livingai.inspection.findings.FINDINGS` says what ``code`` means."""

    code: Code
    where: str
    what: str

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return FINDINGS[self.code].severity

    @property
    def loss(self) -> Loss:
        """What became of accepted records by it."""
        return FINDINGS[self.code].loss

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}"


@dataclass(slots=True)
class Report:
    """The findings of a check, and how much it has read.

    The keys of ``counts``: journals, alive (journals with a living owner), segments, records,
    waiting (records without an outcome), damaged, indexed (slots of the hot cache), quarantined,
    litter (files that a crash left). With a store: executions, nodes, states (that were decoded),
    compared (records whose outcome was compared with the store).
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

    def note(self, code: Code, where: str, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(code, where, what))

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "path": self.path,
            "ok": self.ok,
            "counts": dict(sorted(self.counts.items())),
            "findings": [
                {
                    "code": str(finding.code),
                    "severity": str(finding.severity),
                    "loss": str(finding.loss),
                    "where": finding.where,
                    "what": finding.what,
                    "repair": FINDINGS[finding.code].repair,
                }
                for finding in self.findings
            ],
        }

    def __str__(self) -> str:
        counts = self.counts
        verdict = "ok" if self.ok else f"{len(self.errors)} errors"
        text = (
            f"{verdict}: {counts['journals']} journals ({counts['alive']} with a living owner), "
            f"{counts['records']} records ({counts['waiting']} not stored yet, "
            f"{counts['damaged']} damaged), {counts['quarantined']} quarantined"
        )
        if "executions" in counts:
            text += (
                f"; {counts['executions']} executions in the store, {counts['nodes']} nodes, "
                f"{counts['states']} states, {counts['compared']} outcomes compared"
            )
        return text
