"""``livingai requeue``: queue quarantined records again."""

from __future__ import annotations

import os
import sys

import click

from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import engine_on, find
from livingai.errors import LivingAIError
from livingai.inspection import quarantine


@click.command(cls=PlacedCommand)
@store_argument("where")
@click.argument("records", nargs=-1)
def requeue(where: str, records: tuple[str, ...]) -> None:
    """Queue quarantined records again (all of them, or the named files).

    Exit status 1 if one of them is still quarantined afterwards.
    """
    view = find(where)
    aside = {os.path.basename(r.path): r for r in quarantine.list_aside(view.directory)}
    named = [os.path.basename(record) for record in records] or list(aside)
    unknown = [name for name in named if name not in aside]
    if unknown:
        raise click.ClickException(
            f"not in quarantine: {', '.join(unknown)}; `livingai status` lists what is"
        )
    if not named:
        click.echo("nothing is quarantined")
        return
    left = 0
    with engine_on(where) as engine:
        for name in named:
            try:
                outcome = quarantine.requeue(engine, aside[name].path)
            except LivingAIError as error:
                click.echo(f"{name}: {error}")
                left += 1
            else:
                click.echo(f"{name}: {outcome.status} {outcome.reason}".rstrip())
                left += outcome.status == "quarantined"
    sys.exit(1 if left else 0)
