"""``livingai check``: verify the files of a state directory, and its store; move damage aside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import find, store_at
from livingai.errors import LivingAIError
from livingai.inspection.check import check_directory
from livingai.inspection.repair import repair_directory
from livingai.inspection.workbench import Repaired


class _CouldNotLookError(click.ClickException):
    """Nothing is known of the directory."""

    exit_code = 2


@click.command(cls=PlacedCommand)
@store_argument("where")
@click.option("--store", "-s", metavar="STORE", help="Verify what the store holds, too.")
@click.option("--repair", is_flag=True, help="Move damage aside; nothing is deleted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(where: str, store: str | None, repair: bool, as_json: bool) -> None:
    """Verify journals, cursors, outcomes and index; with --store also every node and state in the
    store, and that it has what the journals say is stored; the directory is that of this store,
    unless an argument names another. Without --repair changes nothing.

    --repair needs a directory that no agent and no service uses. Exit status 0: no damage, 1:
    damage (after a repair: damage that is left, or records that are lost), 2: it could not be
    looked at, or not be repaired; what was done until then is printed.
    """
    repaired = Repaired(where)
    try:
        with _could_not_look():
            path = find(where).path
            if repair:
                repair_directory(path, store_at(store) if store else None, repaired=repaired)
            report = check_directory(path, store_at(store) if store else None)
    except _CouldNotLookError as error:
        if as_json:
            _print({"error": error.message}, repaired if repair else None)
        for line in [] if as_json else repaired.lines():
            click.echo(line)
        raise
    if as_json:
        _print(report.to_json(), repaired if repair else None)
    else:
        for line in repaired.lines():
            click.echo(line)
        for finding in report.findings:
            click.echo(f"{finding}")
        click.echo(f"{report}")
    sys.exit(0 if report.ok and not repaired.lost else 1)


def _print(found: dict[str, Any], repaired: Repaired | None) -> None:
    done = {"repaired": repaired.to_json()} if repaired is not None else {}
    click.echo(json.dumps(found | done, indent=2))


@contextmanager
def _could_not_look() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        raise _CouldNotLookError(error.message) from error
    except (LivingAIError, OSError) as error:
        raise _CouldNotLookError(f"{type(error).__name__}: {error}") from error
    except KeyboardInterrupt as error:
        raise _CouldNotLookError("interrupted; it can be done again") from error
