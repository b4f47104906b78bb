"""The option ``--store`` of commands that look at runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.inspection.directories import NothingThereError
from livingai.inspection.view import RunsView, runs_view

F = TypeVar("F", bound=Callable[..., Any])


def store_option(command: F) -> F:
    """The option, with its default from the environment."""
    return click.option(
        "--store",
        "-s",
        "store",
        envvar="LIVINGAI_STORE",
        required=True,
        show_envvar=True,
        metavar="STORE",
        help="The store: a SQLite file, a URL, or a state directory.",
    )(command)


@contextmanager
def looking_at(store: str) -> Iterator[RunsView]:
    """A view of the runs in a store; a :class:`CommandError` if there is none."""
    try:
        with runs_view(store) as view:
            yield view
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error
