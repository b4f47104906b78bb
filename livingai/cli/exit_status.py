"""Exit statuses of commands, for scripts.

==  ===============================================================================
0   all is well
1   a problem was found: there is no such run, two states differ, something failed
2   the command line makes no sense
3   what it is about cannot be reached: no database there, a store or service away
4   what is there is damaged, or of a newer livingai
==  ===============================================================================

``check``, ``serve`` and the processes of the service have statuses of their own.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import click

from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    FormatVersionError,
    ImportMismatchError,
    ImportSourceError,
    LivingAIError,
    NotFoundError,
    ServiceUnavailableError,
    StoreAuthenticationError,
    StoreFormatError,
    StoreUnavailableError,
    VersionMismatchError,
)


class ExitStatus(IntEnum):
    """How a command ended."""

    WELL = 0
    PROBLEM = 1
    USAGE = 2
    UNREACHABLE = 3
    DATA = 4


_STATUSES: Final[dict[type[Exception], ExitStatus]] = {
    NotFoundError: ExitStatus.PROBLEM,
    CorruptRecordError: ExitStatus.DATA,
    StoreFormatError: ExitStatus.DATA,
    FormatVersionError: ExitStatus.DATA,
    VersionMismatchError: ExitStatus.DATA,
    ImportSourceError: ExitStatus.DATA,
    ImportMismatchError: ExitStatus.DATA,
    ServiceUnavailableError: ExitStatus.UNREACHABLE,
    StoreUnavailableError: ExitStatus.UNREACHABLE,
    StoreAuthenticationError: ExitStatus.UNREACHABLE,
    ConfigurationError: ExitStatus.USAGE,
}


def status_of(error: LivingAIError) -> ExitStatus:
    """The exit status of a command that ended with this error."""
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return ExitStatus.PROBLEM


class CommandError(click.ClickException):
    """One sentence on standard error, and the exit status. What a terminal would obey is escaped in
    it."""

    def __init__(self, message: str, status: ExitStatus = ExitStatus.PROBLEM) -> None:
        super().__init__(message)
        self.exit_code = int(status)  # type: ignore[misc]  # click reads it of the instance

    @classmethod
    def of(cls, error: LivingAIError) -> CommandError:
        """What to say of an error."""
        return cls(f"{type(error).__name__}: {error}", status_of(error))

    def format_message(self) -> str:
        """The sentence as it is printed."""
        from livingai.cli.output import printable  # noqa: PLC0415 - only where it is needed

        return printable(self.message)
