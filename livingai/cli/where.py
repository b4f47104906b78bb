"""What the arguments of several commands mean: STORE, and a number of days."""

from __future__ import annotations

import math
from typing import Any

import click

from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.config import EngineConfig
from livingai.engine.engine import CheckpointEngine
from livingai.inspection.directories import (
    DirectoryView,
    NothingThereError,
    existing_store,
    find_directory,
    is_directory,
)
from livingai.settings import load_settings
from livingai.stores.base import Store
from livingai.stores.opening import open_store


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


def config_of(where: str) -> EngineConfig:
    """The settings of engines on that store: those of the file of settings, if it is about it."""
    return load_settings().config_of(where)


def find(where: str) -> DirectoryView:
    """The state directory that ``where`` means; a CommandError if there is none."""
    try:
        return find_directory(where, config_of(where).directory)
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error


def store_at(where: str) -> Store:
    """The store that ``where`` names, itself or by its state directory; a CommandError if it is a
    file that does not exist."""
    try:
        if is_directory(where):
            return find_directory(where).open_store()
        return existing_store(where)
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error


def engine_on(where: str, *, new: bool = False) -> CheckpointEngine:
    """An engine on the store that ``where`` means; a URL may bring credentials. ``new``: a SQLite
    file may not exist yet."""
    if is_directory(where):
        view = find(where)
        return CheckpointEngine(view.open_store(), config_of(where), directory=view.path)
    return CheckpointEngine(open_store(where) if new else store_at(where), config_of(where))


def drain(where: str) -> None:
    """Have what waits in the journals of that store stored, if it has any here."""
    try:
        journals = find(where).journals()
    except CommandError:  # no agent of this machine has used it
        return
    if journals:
        with engine_on(where, new=True) as engine:
            engine.drain_sync()
