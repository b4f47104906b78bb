"""``livingai check``: verify the files of a state directory."""

from __future__ import annotations

import sys

import click

from livingai.cli.where import find
from livingai.inspection.check import check_directory


@click.command()
@click.argument("where")
def check(where: str) -> None:
    """Verify journals, cursors, outcomes and index; changes nothing. Exit status 1 on damage."""
    report = check_directory(find(where).path)
    for finding in report.findings:
        click.echo(f"{finding}")
    click.echo(f"{report}")
    sys.exit(0 if report.ok else 1)
