"""``livingai doctor``: what is wrong, why it matters, what mends it."""

from __future__ import annotations

import sys

import click

from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import config_of
from livingai.inspection.directories import NothingThereError
from livingai.inspection.doctor.ailment import Examination, Grade
from livingai.inspection.doctor.examine import examine

_MARKS = {Grade.ERROR: "failed", Grade.WARNING: "running", Grade.NOTE: ""}


@click.command(cls=PlacedCommand)
@store_argument("store")
@click.option("--strict", is_flag=True, help="Exit status 1 for warnings, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(store: str, strict: bool, as_json: bool) -> None:
    """Explain what is wrong here and what to do: machine, disk, service, store, clock, versions.

    Nothing is changed, and no service is started. Exit status 1 if there is an error.
    """
    try:
        found = examine(store, config_of(store).directory)
    except NothingThereError as error:
        raise CommandError(str(error), ExitStatus.UNREACHABLE) from error
    if as_json:
        output.json_line(found.to_json())
    else:
        _print(found)
    bad = Grade.WARNING if strict else Grade.ERROR
    sys.exit(int(ExitStatus.PROBLEM if found.worst >= bad else ExitStatus.WELL))


def _print(found: Examination) -> None:
    for name, value in found.facts.items():
        click.echo(f"{name:16} {output.printable(value)}")
    for each in found.ailments:
        click.echo("")
        head = output.coloured(f"{each.grade.name.lower():8}", _MARKS[each.grade])
        click.echo(f"{head} {each.code}: {output.printable(each.what)}")
        click.echo(f"     why {output.printable(each.why)}")
        if each.mend:
            click.echo(f"      do {output.printable(each.mend)}")
    if not found.ailments:
        click.echo("\nnothing is wrong")
