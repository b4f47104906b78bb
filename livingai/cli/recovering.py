"""``livingai recover`` and ``livingai resolve``: what a resumed run would do, and deciding what it
cannot know."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import click

from livingai import serial
from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import looking_at, store_option
from livingai.cli.where import engine_on
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ExecutionNotFoundError, StateEncodingError
from livingai.inspection.view import RunsView
from livingai.node import ExecutionNode, Status
from livingai.outcome import Durability, OutcomeStatus
from livingai.runs.calls import CALL
from livingai.runs.in_doubt import node_to_retry, resolved_node
from livingai.runs.policy import Resolution
from livingai.runs.recovery import RecoveryEngine, RecoveryPlan
from livingai.stores.base import ExecutionInfo
from livingai.stores.shared.human import human_json

_HEAD: Final = ("RUN", "STATUS", "RESUMES AT", "AGAIN", "SERVED", "IN DOUBT")
_CLASSES: Final = (
    ("again", "replay_nodes", "may run again"),
    ("served", "skipped_nodes", "is not repeated, its recorded output is served"),
    ("in_doubt", "in_doubt_nodes", "in doubt, it may have happened (livingai resolve)"),
    ("failed", "failed_nodes", "is not repeated, its recorded error is served"),
    ("pending", "pending_nodes", "was not begun"),
)
#: What a run that has not ended well may have.
_OPEN: Final = (Status.PENDING, Status.RUNNING, Status.FAILED)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run and its plan."""

    info: ExecutionInfo
    plan: RecoveryPlan


@click.command()
@store_option
@click.argument("run", required=False)
@click.option("--prefix", default="", help="Without RUN: only runs whose id begins with this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each run.")
def recover(store: str, run: str | None, prefix: str, as_json: bool) -> None:
    """Show what RUN would do if it were resumed; without RUN, all runs that have not ended well.

    It changes nothing: a program inside `engine.run` recovers as it is run again. Exit status 1 if
    a tool is in doubt, so that somebody has to decide.
    """
    damaged: list[ExecutionInfo] = []
    with looking_at(store) as view:
        chosen = _open_runs(view, prefix, damaged) if run is None else [view.execution(run)]
        planned = (PlannedRun(info, view.plan(info.execution_id)) for info in chosen)
        found = [each for each in planned if each.plan.found]  # one may be deleted meanwhile
    if run is not None and not found:
        raise CommandError(f"there is no run {run!r}")
    if as_json:
        for each in found:
            output.json_line(plan_object(each.info, each.plan))
    elif run is not None:
        _print_plan(found[0].plan)
    elif found:
        output.table(_HEAD, [_row(each) for each in found], right=(3, 4, 5))
    elif not damaged:
        click.echo("no run is unfinished", err=True)
    for info in damaged:
        told = f"{info.execution_id} is damaged, so nothing is known of it: {info.damage}"
        click.echo(output.printable(told), err=True)
    if any(each.plan.in_doubt_nodes for each in found):
        sys.exit(ExitStatus.PROBLEM)
    if damaged:
        sys.exit(ExitStatus.DATA)


def _open_runs(
    view: RunsView, prefix: str, damaged: list[ExecutionInfo]
) -> Iterator[ExecutionInfo]:
    """Runs that have not ended well. Of a program that records its own nodes the status is that of
    the newest one, whatever others are; so it is looked at for tools in doubt."""
    for info in view.executions(prefix=prefix):
        if info.damage:
            damaged.append(info)
        elif info.status in _OPEN or (not info.is_run and _has_doubt(view, info.execution_id)):
            yield info


def _has_doubt(view: RunsView, execution_id: str) -> bool:
    try:
        nodes = view.nodes(execution_id)
    except ExecutionNotFoundError:  # deleted meanwhile
        return False
    return any(found.node.status is Status.RUNNING and not found.node.idempotent for found in nodes)


def plan_object(info: ExecutionInfo, plan: RecoveryPlan) -> dict[str, Any]:
    """A run's plan as ``--json`` prints it."""
    nodes = {
        name: [node.id for node in getattr(plan, attribute)] for name, attribute, _ in _CLASSES
    }
    return {
        "run": plan.execution_id,
        "status": info.status,
        "resume_node_id": plan.resume_node_id,
        **nodes,
    }


def _row(found: PlannedRun) -> tuple[str, ...]:
    plan = found.plan
    return (
        plan.execution_id, found.info.status, plan.resume_node_id or "the beginning",
        str(len(plan.replay_nodes)), str(len(plan.skipped_nodes)), str(len(plan.in_doubt_nodes)),
    )  # fmt: skip


def _print_plan(plan: RecoveryPlan) -> None:
    where = plan.resume_node_id or "the beginning, as there is no checkpoint"
    output.line(output.printable(f"resumes at {where}"))
    for name, attribute, what in _CLASSES:
        nodes = getattr(plan, attribute)
        if nodes:
            output.line(f"{what}:", mark="failed" if name == "in_doubt" else "")
        for node in nodes:
            output.line(output.printable(f"  {_named(node)}"))


def _named(node: ExecutionNode) -> str:
    name = node.metadata.get("name")
    return f"{name} {human_json(node.input) or ''} ({node.id})" if name else node.id


@click.command()
@store_option
@click.argument("run")
@click.argument("call")
@click.option("--done", metavar="VALUE", help="It happened: VALUE (JSON) is what it returned.")
@click.option("--retry", is_flag=True, help="It did not happen: the resumed run calls it.")
@click.option("--give-up", metavar="REASON", help="It failed: the resumed run gets this error.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def resolve(
    *, store: str, run: str, call: str, done: str | None, retry: bool, give_up: str | None,
    yes: bool,
) -> None:  # fmt: skip
    """Decide about CALL of RUN, a tool that was begun and whose result is not recorded.

    CALL is the node's id, the call's path in the program, or the tool's name where only one is in
    doubt. RUN is taken over: a process that still works on it is fenced off, and its later
    writes do not count. So look first whether one does.
    """
    if [done is not None, retry, give_up is not None].count(True) != 1:
        raise click.UsageError("say what came of it: --done VALUE, --retry or --give-up REASON")
    if done is not None:
        resolution = Resolution.done(_value(done))
    else:
        resolution = Resolution.fail(give_up) if give_up is not None else Resolution.retry()
    with engine_on(store) as engine:
        node = _in_doubt(RecoveryEngine(engine).plan_sync(run), call)
        if not yes:
            if not sys.stdin.isatty():
                raise CommandError("nobody can be asked here: add --yes", ExitStatus.USAGE)
            shown = output.printable(f"take over {run} and settle {_named(node)}?")
            click.confirm(shown, abort=True, err=True)
        _settle(engine, node, resolution)
    output.line(output.printable(f"settled {_named(node)}; run the program again to go on"))


def _value(text: str) -> Any:
    """What was typed, checked before anything is taken over for it."""
    try:
        value = json.loads(text, parse_constant=_no_json)
        serial.pack(value, "--done", "give")
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f'--done {text!r} is no JSON ({error}); text is "text"') from error
    except StateEncodingError as error:
        raise click.UsageError(f"--done cannot be recorded: {error}") from error
    return value


def _no_json(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _in_doubt(plan: RecoveryPlan, call: str) -> ExecutionNode:
    """The node in doubt that ``call`` means."""
    if not plan.found:
        raise CommandError(f"there is no run {plan.execution_id!r}")
    nodes, found = plan.in_doubt_nodes, list[ExecutionNode]()
    for key in ("", CALL, "name"):
        found = [node for node in nodes if call == (node.metadata.get(key) if key else node.id)]
        if len(found) == 1:
            return found[0]
    there = ", ".join(_named(node) for node in nodes) or "none"
    which = f"{len(found)} calls {call!r}" if found else f"no call {call!r}"
    raise CommandError(f"run {plan.execution_id!r} has {which} in doubt; in doubt: {there}")


def _settle(engine: CheckpointEngine, node: ExecutionNode, resolution: Resolution) -> None:
    """Take the run over, look again, and record the decision in the store."""
    engine.claim_sync(node.execution_id)
    history = engine.history_sync(node.execution_id)
    now = next((each.node for each in history.nodes if each.node.id == node.id), None)
    if now is None:
        raise CommandError(f"{_named(node)} was removed meanwhile")
    if now.status is not Status.RUNNING:
        raise CommandError(f"{_named(now)} has ended meanwhile: it is {now.status}")
    if resolution == Resolution.retry():
        settled = node_to_retry(now)
    else:
        settled = resolved_node(now, resolution)
    outcome = engine.save_sync(settled, durability=Durability.STORE).result()
    if outcome.status is OutcomeStatus.FENCED:
        raise CommandError(
            f"nothing was settled: a process took {node.execution_id} over meanwhile. See whether "
            f"{_named(now)} is still in doubt (livingai recover), then decide again"
        )
    if not outcome.stored:
        raise CommandError(f"{_named(now)} was not settled ({outcome.status}): {outcome.reason}")
