"""STORE, the place that a command works on: a SQLite file, a URL, or a state directory.

Rules:

1. ``-s``/``--store`` names it. Where it is not typed, ``LIVINGAI_STORE`` does, then ``store`` of
   the file of settings (:mod:`livingai.settings`).
2. Commands that have it as an argument, too (``livingai status STORE``), take it from rule 1 where
   the argument is left out: if ``--store`` is typed, or if fewer arguments are typed than the
   command would need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from livingai.cli.exit_status import CommandError, ExitStatus

if TYPE_CHECKING:
    from livingai.inspection.view import RunsView

F = TypeVar("F", bound=Callable[..., Any])
#: Names the store where no argument or option does.
VARIABLE: Final = "LIVINGAI_STORE"
_LEFT_OUT: Final = "livingai.store_left_out"
_HELP: Final = "The store: a SQLite file, a URL, or a state directory."


def known_store(missing: str) -> str:
    """The store of the environment or the file of settings.

    Raises:
        UsageError: none is named; ``missing`` says what was not typed.
        ConfigurationError: the file of settings cannot be used.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return named
    from livingai.settings import OWN_FILE, load_settings  # noqa: PLC0415 - imports much

    settings = load_settings()
    if settings.store is not None:
        return settings.store
    others = "".join(
        f" ({path} is passed over, as it belongs to another user)" for path in settings.passed_over
    )
    raise click.UsageError(
        f"{missing}: name the store with --store, {VARIABLE}, or `store` in {OWN_FILE}{others}."
    )


def store_option(command: F) -> F:
    """The option ``store`` of a command that takes the place as an option only."""
    return click.option(
        "--store", "-s", "store", metavar="STORE", callback=_typed_or_known,
        help=f"{_HELP}  [env var: {VARIABLE}]",
    )(command)  # fmt: skip


def _typed_or_known(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value or ctx.resilient_parsing:
        return value
    if value is not None:
        raise click.BadParameter("it is empty", ctx, param)
    return known_store("Missing option '--store' / '-s'")


class PlacedArgument(click.Argument):
    """The place as an argument of a :class:`PlacedCommand`, which may be left out."""


def store_argument(name: str, metavar: str = "[STORE]") -> Callable[[F], F]:
    """The place as the argument ``name`` of a :class:`PlacedCommand`."""
    return click.argument(name, metavar=metavar, cls=PlacedArgument)


class PlacedCommand(click.Command):
    """A command that takes the place as a :class:`PlacedArgument` or with ``--store``. One that has
    an option ``--store`` of its own uses that where the argument is left out."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._placed = next(each for each in self.params if isinstance(each, PlacedArgument))
        self._has_own = any("--store" in each.opts for each in self.params)
        self._option = click.Option(
            ["--store", "-s", _LEFT_OUT.partition(".")[2]], metavar="STORE", expose_value=False,
            help=f"Instead of the argument.  [env var: {VARIABLE}]",
        )  # fmt: skip

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """All parameters; without the argument where it is left out."""
        params = super().get_params(ctx)
        if ctx.meta.get(_LEFT_OUT):
            params = [each for each in params if each is not self._placed]
        return params if self._has_own else [*params[:-1], self._option, *params[-1:]]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed; the place is looked up where its argument is left out."""
        typed, _, _ = self.make_parser(ctx).parse_args(list(args))
        option = next(each for each in self.get_params(ctx) if "--store" in each.opts)
        store = typed.get(str(option.name))
        if store == "":
            raise click.BadParameter("it is empty", ctx, option)
        named = isinstance(store, str) and not self._has_own
        eager = any(each.is_eager and each.name in typed for each in self.get_params(ctx))
        if ctx.resilient_parsing or eager or not (named or self._falls_short(typed)):
            return super().parse_args(ctx, args)
        ctx.meta[_LEFT_OUT] = True
        left = super().parse_args(ctx, args)
        found = store if isinstance(store, str) else known_store("Missing argument 'STORE'")
        ctx.params[str(self._placed.name)] = found
        return left

    def _falls_short(self, typed: dict[str, Any]) -> bool:
        """Whether fewer arguments were typed than are needed with the place among them. They are
        given out from the left, so the last one that is needed lacks its value."""
        needed = [e for e in self.params if isinstance(e, click.Argument) and e.required]
        return not isinstance(typed.get(str(needed[-1].name)), str)


@contextmanager
def looking_at(store: str) -> Iterator[RunsView]:
    """A view of the runs in a store; a :class:`CommandError` if there is none."""
    from livingai.inspection.directories import NothingThereError  # noqa: PLC0415 - imports much
    from livingai.inspection.view import runs_view  # noqa: PLC0415
    from livingai.settings import load_settings  # noqa: PLC0415

    try:
        with runs_view(store, load_settings().config_of(store)) as view:
            yield view
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error
