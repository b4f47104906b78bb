"""A group of commands whose modules are imported when a command is called, not before.

The list of commands, with a line on each, comes from a table, so ``livingai --help`` imports
neither the engine nor a store.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from livingai.cli.exit_status import CommandError
from livingai.errors import LivingAIError


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is defined, and its line in the list of commands."""

    #: Module in :mod:`livingai.cli`, and the command's name in it.
    module: str
    attribute: str
    #: One sentence of at most 60 characters.
    short_help: str

    def load(self) -> click.Command:
        """Import the command's module."""
        module = importlib.import_module(f"livingai.cli.{self.module}")
        command: click.Command = getattr(module, self.attribute)
        command.short_help = self.short_help
        return command


class Commands(click.Group):
    """The group. It prints a :class:`~livingai.errors.LivingAIError` as one sentence, without a
    traceback."""

    def __init__(self, *args: Any, lazy: Mapping[str, LazyCommand], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in alphabetical order."""
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now; None if there is none."""
        found = self._lazy.get(cmd_name)
        return found.load() if found is not None else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(n, self._lazy[n].short_help) for n in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named; one sentence and an exit status if it fails
        (:mod:`livingai.cli.exit_status`)."""
        try:
            return super().invoke(ctx)
        except LivingAIError as error:
            raise CommandError.of(error) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # What is still in the buffer would fail once more as Python ends, with a status of its
            # own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise CommandError(f"there is no space left: {error}") from error
