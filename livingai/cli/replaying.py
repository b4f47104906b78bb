"""``livingai replay``: a recorded run again, as a new one that is compared with the record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any, Final

import click

from livingai.cli import output
from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.place import looking_at, store_option
from livingai.cli.programs import load_program
from livingai.cli.where import engine_on
from livingai.replay.compare import NodeComparison, ReplayResult, name_of
from livingai.replay.handlers import is_asynchronous
from livingai.replay.mode import ReplayKeywords, ReplayMode, make_request
from livingai.replay.plan import ReplayedNode, plan_replay
from livingai.replay.session import ReplaySession
from livingai.runs.calls import CALL
from livingai.runs.diff import NOTHING
from livingai.stores.shared.human import human_json

_HEAD: Final = ("NODE", "WHAT", "TYPE", "NAME", "PATH")


class NodeValue(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``NODE=JSON``."""

    name = "node=json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """The node, and the value; fails with a usage error that names the option."""
        node, sign, text = str(value).partition("=")
        try:
            if not sign or not node:
                raise ValueError("it is not NODE=JSON")
            return node, json.loads(text, parse_constant=_no_json)
        except (ValueError, RecursionError) as error:
            self.fail(f'{str(value)!r:.200}: {error}; text is "text".', param, ctx)


def _no_json(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


@click.command()
@store_option
@click.argument("run")
@click.option("--mode", type=click.Choice([mode.value for mode in ReplayMode]),
              help="What runs again (default: mock_tools, or by --from, --set).")  # fmt: skip
@click.option("--from", "node_id", metavar="NODE", help="from_node: the first node that runs.")
@click.option("--set", "outputs", multiple=True, type=NodeValue(), metavar="NODE=JSON",
              help="counterfactual: the node gives this instead; may be repeated.")  # fmt: skip
@click.option("--set-input", "inputs", multiple=True, type=NodeValue(), metavar="NODE=JSON",
              help="counterfactual: the node gets this instead; may be repeated.")  # fmt: skip
@click.option("--program", metavar="MODULE:NAME", help="A program, handler or dict of functions.")
@click.option("--as", "new_id", metavar="ID", help="The id of the new execution.")
@click.option("--allow-side-effects", is_flag=True, help="Tools may really be called; asks before.")
@click.option("--allow-live", is_flag=True, help="Although a process is still at work on RUN.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--full", is_flag=True, help="Print all nodes, not only those that differ.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each node.")
def replay(
    *, store: str, run: str, mode: str | None, node_id: str | None,
    outputs: tuple[tuple[str, Any], ...], inputs: tuple[tuple[str, Any], ...], program: str | None,
    new_id: str | None, allow_side_effects: bool, allow_live: bool, yes: bool, full: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Replay RUN with --program as a new execution, and compare the two: same, changed, new and
    missing nodes. Without --program, show what of RUN would run again and what would be served.

    NODE is a node's id, the path of its call, or its name where no other has that. Exit status 1 if
    the replay is not the same as the record.
    """
    options = ReplayKeywords(allow_side_effects=allow_side_effects, allow_live=allow_live)
    overrides = _overrides(outputs, inputs)
    if overrides and node_id is not None:
        raise click.UsageError("--from, or --set and --set-input, not both")
    if overrides:
        options["overrides"] = overrides
    if node_id is not None:
        options["node_id"] = node_id
    guessed = ReplayMode.FROM_NODE if node_id is not None else ReplayMode.MOCK_TOOLS
    options["mode"] = mode or (ReplayMode.COUNTERFACTUAL if overrides else guessed)
    if new_id is not None:
        options["new_id"] = new_id
    make_request(options)
    handler = load_program(program) if program is not None else None
    with looking_at(store) as view:
        view.execution(run)
        nodes = [found.node for found in view.nodes(run)]
        plan = plan_replay(run, nodes, options)
    if handler is None:
        _print_plan(plan, as_json)
        return
    if allow_side_effects and not yes:
        _ask(plan)
    # What the program prints is not of what this command says of it.
    with contextlib.redirect_stdout(sys.stderr):
        result = replayed(store, run, handler, options)
    _print(result, full, as_json)


def _overrides(
    outputs: tuple[tuple[str, Any], ...], inputs: tuple[tuple[str, Any], ...]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, pairs in (("output", outputs), ("input", inputs)):
        for node, value in pairs:
            if name in found.setdefault(node, {}):
                raise click.UsageError(f"{node!r} is set twice")
            found[node][name] = value
    return found


def _ask(plan: list[ReplayedNode]) -> None:
    """Have a person consent to what has side effects, before anything is called."""
    risky = [each for each in plan if each.needs_consent]
    for each in risky:
        shown = f"{name_of(each.node)} {human_json(each.node.input) or ''} ({each.node.id})"
        click.echo(output.printable(shown), err=True)
    if not sys.stdin.isatty():
        raise CommandError("nobody can be asked here: add --yes", ExitStatus.USAGE)
    click.confirm(
        f"really make these {len(risky)} calls with side effects, and what else the program calls?",
        abort=True, err=True,
    )  # fmt: skip


def replayed(store: str, run: str, handler: Any, options: ReplayKeywords) -> ReplayResult:
    """Replay a run with a program, a handler or a dict of functions, asynchronous or not."""
    functions = handler.values() if isinstance(handler, dict) else [handler]
    if not any(map(is_asynchronous, functions)):
        with engine_on(store) as engine:
            return ReplaySession(engine, run).run_sync(handler, **options)

    async def replay_here() -> ReplayResult:
        async with engine_on(store) as engine:
            return await ReplaySession(engine, run).run(handler, **options)

    return asyncio.run(replay_here())


def _print_plan(plan: list[ReplayedNode], as_json: bool) -> None:
    rows = []
    for each in plan:
        node, path = each.node, each.node.metadata.get(CALL)
        if as_json:
            output.json_line({
                "node": node.id, "how": each.how, "type": node.type, "name": name_of(node),
                "path": path, "needs_consent": each.needs_consent,
            })  # fmt: skip
        what = f"{each.how} (needs --allow-side-effects)" if each.needs_consent else each.how.value
        rows.append((node.id, what, node.type.value, name_of(node), str(path or "")))
    if not as_json:
        output.table(_HEAD, rows)
        click.echo("nothing was called or written; --program MODULE:NAME replays it", err=True)


def _print(result: ReplayResult, full: bool, as_json: bool) -> None:
    if as_json:
        for node in result.nodes:
            output.json_line({"node": _compared(node)})
        first = next((node for node in result.diverged), None)
        error = result.error
        output.json_line({"replay": {
            "run": result.execution_id, "of": result.parent_execution, "mode": result.mode,
            "same": result.same, "counts": result.counts,
            "first": None if first is None else _compared(first),
            "error": None if error is None else {"type": error.type, "message": error.message},
            "output": json.loads(human_json(result.output) or "null"),
            "state": [_side_by_side(each) for each in result.state_differences],
            "record_changed": result.record_changed,
        }})  # fmt: skip
    else:
        for line in result.report(full=full).splitlines():
            output.line(output.printable(line))
        if result.diverged:
            first_line = result.diverged[0].lines()[0]
            output.line(output.printable(f"first divergence: {' '.join(first_line.split())}"))
    if not result.same:
        sys.exit(ExitStatus.PROBLEM)


def _compared(found: NodeComparison) -> dict[str, Any]:
    node = found.recorded or found.replayed
    assert node is not None
    return {
        "change": found.change, "name": found.name, "type": node.type, "how": found.how,
        "path": node.metadata.get(CALL),
        "recorded": found.recorded.id if found.recorded else None,
        "replayed": found.replayed.id if found.replayed else None,
        "differences": [_side_by_side(each) for each in found.differences],
    }  # fmt: skip


def _side_by_side(difference: Any) -> dict[str, Any]:
    sides = {"recorded": difference.recorded, "replayed": difference.replayed}
    there = {
        name: json.loads(human_json(side) or "null")
        for name, side in sides.items()
        if side is not NOTHING
    }
    return {"path": difference.path, **there}
