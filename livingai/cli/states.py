"""``livingai state`` and ``livingai diff``: what a run knew, and how two differ."""

from __future__ import annotations

import json
import sys
from typing import Any, Final, NamedTuple

import click

from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import looking_at, store_option
from livingai.inspection.view import RunsView
from livingai.runs.diff import NOTHING, differences
from livingai.stores.shared.human import human_json

_MOST: Final = 1000


class StateAt(NamedTuple):
    """The state of a run at a node: ``node_id`` is the node that carried it."""

    node_id: str
    state: Any


def state_at(view: RunsView, run: str, node_id: str | None) -> StateAt:
    """The newest state of a run, or the newest one that had been saved when ``node_id`` was saved
    last.

    Raises:
        CommandError: there is none.
        NotFoundError: there is no such run or node.
    """
    sizes = view.checkpoints(run)
    if node_id is None:
        view.execution(run)
    else:
        versions = {each.node.id: (each.epoch, each.seq) for each in view.nodes(run)}
        if node_id not in versions:
            raise CommandError(f"run {run!r} has no node {node_id!r}; see `livingai show`")
        sizes = [each for each in sizes if (each.epoch, each.seq) <= versions[node_id]]
    if not sizes:
        what = f"when {node_id} was saved" if node_id else "yet"
        raise CommandError(f"run {run!r} had no state {what}")
    carrier = sizes[-1].node_id
    if node_id is not None and carrier != node_id:
        later = [each for each in view.checkpoints(run) if each.node_id == carrier]
        if later[-1] != sizes[-1]:
            raise CommandError(
                f"the state of run {run!r} at {node_id} was that of node {carrier}, which has "
                "been saved with another one since; only its newest can be shown"
            )
    return StateAt(carrier, view.node(run, carrier)[1])


@click.command()
@store_option
@click.argument("run")
@click.option("--at", "node_id", metavar="NODE", help="As it was when this node was saved.")
@click.option("--raw", is_flag=True, help="A state of bytes as it is, for a file or a pipe.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: run, node, state.")
def state(store: str, run: str, node_id: str | None, raw: bool, as_json: bool) -> None:
    """Print the state of RUN as JSON. What JSON has no form for is described as text."""
    with looking_at(store) as view:
        carrier, found = state_at(view, run, node_id)
    if raw:
        if not isinstance(found, bytes | bytearray):
            raise CommandError(f"the state is a {type(found).__name__}, not bytes; leave out --raw")
        click.echo(bytes(found), nl=False)
        return
    text = human_json(found) or "null"
    if as_json:
        output.json_line({"run": run, "node": carrier, "state": json.loads(text)})
    else:
        click.echo(
            output.printable_json(json.dumps(json.loads(text), indent=2, ensure_ascii=False))
        )


@click.command()
@store_option
@click.argument("one", metavar="RUN[@NODE]")
@click.argument("other", metavar="RUN[@NODE]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: path, one, other.")
def diff(store: str, one: str, other: str, as_json: bool) -> None:
    """Print where the states of two runs differ, or of two nodes. Exit status 1 if they do.

    NODE begins behind the last @.
    """
    with looking_at(store) as view:
        first, second = (_named(view, name) for name in (one, other))
    found = differences(first.state, second.state, limit=_MOST)
    for difference in found:
        if as_json:
            sides = {"one": difference.recorded, "other": difference.replayed}
            there = {name: _described(side) for name, side in sides.items() if side is not NOTHING}
            output.json_line({"path": difference.path, **there})
        else:
            output.line(output.printable(str(difference)))
    if len(found) == _MOST:
        click.echo(f"only the first {_MOST} differences are shown", err=True)
    if found:
        sys.exit(ExitStatus.PROBLEM)


def _described(value: Any) -> Any:
    return json.loads(human_json(value) or "null")


def _named(view: RunsView, name: str) -> StateAt:
    """The state of ``RUN`` or ``RUN@NODE``; a run whose id has an @ is found, too."""
    run, sign, node_id = name.rpartition("@")
    if not sign or any(found.execution_id == name for found in view.page(None, name, None, 1)):
        return state_at(view, name, None)
    return state_at(view, run, node_id)
