"""What a command's WHERE names: a state directory, its store, an engine on both."""

from __future__ import annotations

import math
import os
from typing import Any

import click

from livingai.engine.engine import CheckpointEngine
from livingai.errors import LivingAIError
from livingai.queue.directory import MANIFEST, StateDirectory
from livingai.stores.base import Store
from livingai.stores.belonging import store_url_here
from livingai.stores.opening import open_store
from livingai.stores.sqlite import SQLiteStore


class Commands(click.Group):
    """Prints an error as one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LivingAIError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error


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


def find(where: str) -> tuple[StateDirectory, str]:
    """A state directory and its store's URL, from a directory or from a store's path or URL."""
    if os.path.isfile(os.path.join(where, MANIFEST)):
        directory = StateDirectory(where)
    else:
        _refuse_folder(where)
        # The database need not exist: what was saved waits in the directory until it does.
        directory = StateDirectory(open_store(where).default_directory())
        if not os.path.exists(os.path.join(directory.path, MANIFEST)):
            existing_store(where)
            raise click.ClickException(
                f"{where} has no state directory here ({directory.path} would be it): no agent on "
                "this machine has used it, or one did with directory=...; then name that directory"
            )
    return directory, str(directory.manifest().get("store"))


def existing_store(where: str) -> Store:
    """The store that ``where`` names; a file that is not there is a mistake, not a new database."""
    _refuse_folder(where)
    store = open_store(where)
    if isinstance(store, SQLiteStore) and not os.path.exists(store.path):
        raise click.ClickException(f"there is no database {store.path}")
    return store


def _refuse_folder(where: str) -> None:
    if os.path.isdir(where):
        raise click.ClickException(
            f"{where} is no livingai state directory (it has no {MANIFEST}); name one, which is "
            "<database>-livingai unless directory= said otherwise, or the store's file or URL"
        )


def engine_on(where: str) -> CheckpointEngine:
    """An engine on the store; a store that was named by its URL may bring credentials."""
    if os.path.isfile(os.path.join(where, MANIFEST)):
        directory, _ = find(where)
        store = open_store(store_url_here(directory))
        return CheckpointEngine(store, directory=directory.path)
    return CheckpointEngine(existing_store(where))
