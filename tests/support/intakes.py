"""What the service takes from the journals of a state directory."""

from __future__ import annotations

from livingai.workers.dispatcher.intake import Intake


def values(merged: Intake, room: int = 1000) -> list[int]:
    """What a turn takes: the budgets of the records, by which tests tell them apart."""
    return [item.header.budget_us for item in merged.take(room)]
