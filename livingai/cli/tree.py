"""``livingai show``: what a run did, node by node."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import click

from livingai.cli import output
from livingai.cli.listing import as_object, took
from livingai.cli.place import looking_at, store_option
from livingai.inspection.view import RunsView
from livingai.node import ExecutionNode, NodeType, Status
from livingai.protocol.history import Recorded
from livingai.protocol.verbs import StateSize
from livingai.runs.calls import ROLE, RUN
from livingai.stores.base import ExecutionInfo
from livingai.stores.shared.human import human_json

_HEAD: Final = ("STEP", "STATUS", "TYPE", "TOOK", "TOKENS", "STATE", "NOTES", "NODE")
_NUMBERS: Final = (3, 4, 5)
#: Seconds between two looks of ``--follow``.
_PAUSE_S: Final = 0.5
#: A run is deeper than this only if somebody made it up; deeper nodes are shown at this depth.
_MOST_DEPTH: Final = 20
_PREVIEW: Final = 60


@click.command()
@store_option
@click.argument("run")
@click.option("--follow", "-f", is_flag=True,
              help="Go on with what is saved, until the run ends or Ctrl-C.")  # fmt: skip
@click.option("--values", is_flag=True, help="Also input, output and error of each node.")
@click.option("--json", "as_json", is_flag=True,
              help="One JSON object a line: the run, then its nodes.")  # fmt: skip
def show(store: str, run: str, follow: bool, values: bool, as_json: bool) -> None:
    """Show what RUN did: its nodes as a tree, with status, time, tokens and size of states.

    Side effects are marked, and calls that began and have no result: they are in doubt, unless the
    process that made them still works.
    """
    with looking_at(store) as view:
        info = view.execution(run)
        nodes = view.nodes(run)
        # They come oldest first: the newest state of each node.
        sizes = {size.node_id: size for size in view.checkpoints(run)}
        if as_json:
            output.json_line({"run": as_object(info)})
            for node in nodes:
                output.json_line({"node": node_object(node, sizes)})
        else:
            _describe(info, nodes)
            output.table(_HEAD, _rows(nodes, sizes), right=_NUMBERS)
            if values:
                _print_values(nodes)
        if follow:
            try:
                _follow(view, info, nodes, as_json)
            except KeyboardInterrupt:
                click.echo("", err=True)


def _describe(info: ExecutionInfo, nodes: list[Recorded]) -> None:
    lives = len({recorded.epoch for recorded in nodes})
    tokens = sum(recorded.node.cost_tokens for recorded in nodes)
    lines = [
        ("run", info.execution_id),
        ("status", info.status),
        ("saved", f"{output.moment(info.created_at)} to {output.moment(info.updated_at)}"),
        ("took", output.duration(took(info))),
        ("owners", f"{lives} (epoch {info.epoch} is the newest)"),
        ("nodes", f"{info.nodes}, {tokens} tokens"),
        ("states", f"{info.checkpoints}, {output.size(info.stored_bytes)} stored"),
        ("error", info.error),
    ]
    for label, value in lines:
        if value:
            mark = info.status if label == "status" else ""
            output.line(f"{label:8}{output.printable(value)}", mark=mark)
    click.echo("")


def notes(node: ExecutionNode) -> str:
    """What a person should know of a node."""
    found = []
    if node.type is NodeType.TOOL and not node.metadata.get("idempotent"):
        is_open = node.status is Status.RUNNING
        found.append("in doubt: begun, no result" if is_open else "side effect")
    attempts = node.metadata.get("attempts")
    if isinstance(attempts, list) and attempts:
        found.append(f"{len(attempts)} failed attempts")
    if node.metadata.get(ROLE) == RUN:
        found.append("a process entered")
    if node.error is not None:
        found.append(f"{node.error.type}: {node.error.message}")
    return "; ".join(found)


def _rows(nodes: list[Recorded], sizes: Mapping[str, StateSize]) -> list[tuple[str, ...]]:
    depths = _depths([recorded.node for recorded in nodes])
    rows: list[tuple[str, ...]] = []
    for recorded in nodes:
        node = recorded.node
        state = sizes.get(node.id)
        name = str(node.metadata.get("name") or "")
        rows.append(
            (
                "  " * depths[node.id] + (name or node.id),
                str(node.status),
                str(node.type),
                output.duration(node.latency_ms / 1e3) if node.latency_ms else "",
                str(node.cost_tokens or ""),
                output.size(state.raw_bytes) if state is not None else "",
                notes(node),
                node.id if name else "",
            )
        )
    return rows


def _depths(nodes: list[ExecutionNode]) -> dict[str, int]:
    """How far each node is indented: one step where its parent has several children, so that a long
    chain of nodes, each the child of the one before, stays at the margin."""
    children = Counter(node.parent_id for node in nodes if node.parent_id is not None)
    depths: dict[str, int] = {}
    for node in nodes:  # a parent was saved before its children; one that was not has no depth yet
        parent = node.parent_id or ""
        depth = depths.get(parent, -1)
        if depth >= 0 and children[parent] == 1:
            depths[node.id] = depth
        else:
            depths[node.id] = min(depth + 1, _MOST_DEPTH)
    return depths


def _print_values(nodes: list[Recorded]) -> None:
    for recorded in nodes:
        node = recorded.node
        click.echo("")
        title = f"{node.id} {node.metadata.get('name', '')}".rstrip()
        output.line(output.printable(title), mark=str(node.status))
        error = node.error and (node.error.traceback or f"{node.error.type}: {node.error.message}")
        for label, value in (("input", node.input), ("output", node.output)):
            if value is not None:
                output.line(f"  {label:7}{output.printable(human_json(value) or '?')}")
        if error:
            for text in error.rstrip().splitlines():
                output.line(f"  {output.printable(text)}")


def node_object(recorded: Recorded, sizes: Mapping[str, StateSize]) -> dict[str, Any]:
    """A node as ``--json`` prints it. Values that JSON has no form for are described as text."""
    node = recorded.node
    state = sizes.get(node.id)
    return {
        "id": node.id, "parent_id": node.parent_id, "type": str(node.type),
        "status": str(node.status), "name": node.metadata.get("name"),
        "epoch": recorded.epoch, "seq": recorded.seq,
        "created_at": node.created_at, "completed_at": node.completed_at,
        "latency_ms": node.latency_ms, "cost_tokens": node.cost_tokens,
        "state_bytes": state.raw_bytes if state else None,
        "stored_bytes": state.stored_bytes if state else None,
        "notes": notes(node),
    }  # fmt: skip


def _follow(view: RunsView, info: ExecutionInfo, nodes: list[Recorded], as_json: bool) -> None:
    """Print nodes as they are saved, until the run has ended."""
    known = {recorded.node.id: (recorded.epoch, recorded.seq) for recorded in nodes}
    while not (info.is_run and info.status in (Status.SUCCESS, Status.FAILED)):
        time.sleep(_PAUSE_S)
        info = view.execution(info.execution_id)
        fresh = sorted(
            (recorded for recorded in view.nodes(info.execution_id)
             if known.get(recorded.node.id) != (recorded.epoch, recorded.seq)),
            key=lambda recorded: (recorded.epoch, recorded.seq),
        )  # fmt: skip
        for recorded in fresh:
            node = recorded.node
            known[node.id] = (recorded.epoch, recorded.seq)
            if as_json:
                output.json_line({"node": node_object(recorded, {})})
            else:
                name = str(node.metadata.get("name") or node.id)
                cells = (output.moment(time.time()), str(node.status), str(node.type), name,
                         notes(node))  # fmt: skip
                output.line(output.printable("  ".join(filter(None, cells))), mark=str(node.status))
