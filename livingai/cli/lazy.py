"""A group of commands whose modules are imported when a command is called, not before.

The list of commands, with a line on each, comes from a table, so ``livingai --help`` imports
neither the engine nor a store.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from livingai.cli.exit_status import CommandError
from livingai.errors import LivingAIError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: As a shell says it of a program that SIGPIPE has ended.
_SIGPIPE_STATUS: Final = 128 + 13
#: So that the helps of all sections begin in one column.
_NAME_WIDTH: Final = 12


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

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, LazyCommand],
        purposes: Mapping[str, Sequence[str]],
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self._lazy = lazy
        self._purposes = purposes

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in alphabetical order."""
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now; None if there is none."""
        found = self._lazy.get(cmd_name)
        return found.load() if found is not None else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, by purpose."""
        for title, names in self.by_purpose():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:{_NAME_WIDTH}}", self._lazy[name].short_help) for name in names]
                )

    def by_purpose(self) -> list[tuple[str, list[str]]]:
        """The names of all commands below what they are for."""
        listed = [(title, [n for n in names if n in self._lazy])
                  for title, names in self._purposes.items()]  # fmt: skip
        known = {name for _, names in listed for name in names}
        listed.append(("Other", [name for name in sorted(self._lazy) if name not in known]))
        return [(title, names) for title, names in listed if names]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands from the table, without an import of any, and options."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only a shell asks

        found = [
            CompletionItem(name, help=self._lazy[name].short_help)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named; one sentence and an exit status if it fails
        (:mod:`livingai.cli.exit_status`)."""
        try:
            return super().invoke(ctx)
        except LivingAIError as error:
            raise CommandError.of(error) from error
        except OSError as error:
            if error.errno == errno.EPIPE and _nobody_reads():
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                ctx.exit(_SIGPIPE_STATUS)
            if error.errno != errno.ENOSPC:
                raise
            # What is still in the buffer would fail once more as Python ends, with a status of its
            # own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise CommandError(f"there is no space left: {error}") from error


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone: an error of a connection has the
    same number."""
    try:
        poller = select.poll()
        poller.register(1, 0)
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poller.poll(0))
    except OSError:  # closed
        return False
