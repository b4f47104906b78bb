"""What the arguments of several commands mean: WHERE, and a number of days."""

from __future__ import annotations

import math
from typing import Any

import click

from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.engine.engine import CheckpointEngine
from livingai.inspection.directories import (
    DirectoryView,
    NothingThereError,
    existing_store,
    find_directory,
    is_directory,
)
from livingai.stores.base import Store


class Days(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A positive number of days, as seconds."""

    name = "days"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, from what was typed; fails with a usage error that names the option."""
        try:
            seconds = float(value) * 86_400
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is not a positive number of days.", param, ctx)
        return seconds


def find(where: str) -> DirectoryView:
    """The state directory that ``where`` means; a CommandError if there is none."""
    try:
        return find_directory(where)
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error


def store_at(where: str) -> Store:
    """The store that ``where`` names; a CommandError if it is a file that does not exist."""
    try:
        return existing_store(where)
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error


def engine_on(where: str) -> CheckpointEngine:
    """An engine on the store that ``where`` means; a URL may bring credentials."""
    if is_directory(where):
        view = find(where)
        return CheckpointEngine(view.open_store(), directory=view.path)
    return CheckpointEngine(store_at(where))
