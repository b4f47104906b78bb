"""Commands on the contents of a store: ``prune``, ``delete``, ``fork``, ``copy``."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.progress import Progress

from livingai.cli import output
from livingai.cli.place import PlacedCommand, known_store, store_argument
from livingai.cli.where import Days, drain, engine_on, store_at
from livingai.errors import ExecutionNotFoundError
from livingai.node import MAX_ID_BYTES, ExecutionNode, Status
from livingai.replay.recording import Recording
from livingai.stores.copying import copy_store, refuse_same
from livingai.stores.forking import fork_before
from livingai.stores.opening import open_store
from livingai.stores.retention import Dropped, Retention


@click.command(cls=PlacedCommand)
@store_argument("where")
@click.option(
    "--keep-last", type=click.IntRange(min=1), help="Keep this many checkpoints of each execution."
)
@click.option("--max-age", type=Days(), help="Drop checkpoints older than this many days.")
@click.option("--expire", type=Days(), help="Delete executions without a save for this many days.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(list(map(str, Status))),
    help="Only executions of this status.",
)
@click.option("--prefix", default="", help="Only executions whose id begins with this.")
@click.option("--dry-run", is_flag=True, help="List what would be dropped; drop nothing.")
def prune(
    where: str, keep_last: int | None, max_age: float | None, expire: float | None,
    statuses: tuple[str, ...], prefix: str, dry_run: bool,
) -> None:  # fmt: skip
    """Drop old checkpoints, but none that another one still needs. Agents may save meanwhile."""
    if keep_last is None and max_age is None and expire is None:
        raise click.UsageError("say what to drop: --keep-last, --max-age or --expire")
    policy = Retention(keep_last, max_age, expire, statuses, prefix)
    with engine_on(where) as engine:
        before = engine.size_sync()
        pruned = engine.prune_sync(policy, dry_run=dry_run)
        after = engine.size_sync()
    for dropped in pruned.dropped:
        click.echo(_would_drop(dropped))
    for damaged in pruned.damaged:
        click.echo(f"would leave alone, as it is damaged: {damaged}")
    what = (
        f"{pruned.checkpoints} checkpoints ({pruned.blob_bytes} bytes) and {pruned.executions} "
        "executions"
    )
    if dry_run:
        click.echo(f"would drop {what}; nothing was dropped")
    else:
        click.echo(f"dropped {what}; the store went from {before} to {after} bytes")


def _would_drop(dropped: Dropped) -> str:
    size = f"{dropped.checkpoints} checkpoints ({dropped.blob_bytes} bytes)"
    if dropped.whole:
        return f"would delete {dropped.execution_id} with {size}"
    versions = ", ".join(f"{epoch}.{seq}" for epoch, seq in dropped.versions)
    return f"would drop {size} of {dropped.execution_id}: {versions}"


@click.command(cls=PlacedCommand)
@store_argument("where")
@click.argument("execution_id")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask. Without a terminal, no question is asked.")
def delete(where: str, execution_id: str, dry_run: bool, yes: bool) -> None:
    """Delete an execution for good. Exit status 1 if there was none.

    On a terminal it shows what would be deleted, and asks.
    """
    with engine_on(where) as engine:
        ask = not yes and not dry_run and sys.stdin is not None and sys.stdin.isatty()
        found = engine.delete_sync(execution_id, dry_run=True) if ask or dry_run else 1
        if found and ask:
            click.confirm(f"delete {found} nodes of {execution_id}?", abort=True, err=True)
        deleted = engine.delete_sync(execution_id) if found and not dry_run else found
        url = engine.store.url  # ``where`` may have a password
    if not deleted:
        raise click.ClickException(f"no execution {execution_id!r} in {url}; nothing was deleted")
    if dry_run:
        click.echo(f"would delete {deleted} nodes of {execution_id}; nothing was deleted")
    else:
        click.echo(f"deleted {deleted} nodes of {execution_id}")


@click.command(cls=PlacedCommand)
@store_argument("where")
@click.argument("execution_id", metavar="RUN")
@click.argument("new_id", metavar="[NEW]", required=False)
@click.option("--as", "named", metavar="NEW", help="Instead of the argument NEW.")
@click.option("--from", "node", metavar="NODE", help="Only what was there before NODE began.")
def fork(
    where: str, execution_id: str, new_id: str | None, named: str | None, node: str | None
) -> None:
    """Copy RUN under the id NEW: `fork RUN --as NEW`, or `fork [STORE] RUN NEW`.

    With --from the copy is as RUN was before NODE (its id, the path of its call, or its name): a
    program that is run on it does NODE and all that follows anew. A tool that was under way at that
    moment is in doubt in the copy.
    """
    if new_id is not None and named is not None:
        raise click.UsageError("name the copy once: NEW, or --as NEW")
    name = new_id or named
    if name is None:  # of two arguments the first one is RUN
        where, execution_id, name = known_store("Missing option '--as'"), where, execution_id
    if not 0 < len(name.encode("utf-8", "replace")) <= MAX_ID_BYTES:
        raise click.UsageError(f"NEW has 1 to {MAX_ID_BYTES} bytes")
    if node is None:
        with engine_on(where) as engine:
            click.echo(f"copied {engine.fork_sync(execution_id, name)} nodes to {name}")
        return
    drain(where)
    with store_at(where) as store:
        found = [ExecutionNode.from_wire(each.wire) for each in store.nodes(execution_id)]
        if not found:
            raise ExecutionNotFoundError(f"no execution {execution_id!r} in {store.url}")
        node_id = Recording(execution_id, found).named(node).id
        copied = fork_before(store, execution_id, node_id, name)
    click.echo(output.printable(f"copied {copied} nodes to {name}, as they were before {node_id}"))


@click.command(cls=PlacedCommand)
@store_argument("source", "[SOURCE]")
@click.argument("target")
@click.option("--prefix", default="", help="Only executions whose id begins with this.")
def copy(source: str, target: str, prefix: str) -> None:
    """Copy everything from store SOURCE to store TARGET; run it again to resume or catch up.

    What is queued for either store on this machine is stored first. If TARGET has another execution
    under one of the ids, or newer records of one that SOURCE lacks, nothing is copied.
    """
    with store_at(source) as have, open_store(target) as want:
        refuse_same(have, want)
    drain(source)
    drain(target)
    screen = Console(stderr=True)
    with have, want, Progress(console=screen, disable=not screen.is_terminal) as bar:
        task = bar.add_task("executions", total=None)
        copied = copy_store(
            have, want, prefix=prefix, progress=lambda info, done: bar.update(task, completed=done)
        )
        bar.update(task, total=copied.executions, completed=copied.executions)
    click.echo(
        f"{copied.executions} executions, {copied.nodes} nodes, {copied.checkpoints} checkpoints "
        f"({copied.blob_bytes} bytes) are in {want.url}; checksums agree"
    )
    if copied.left_out:
        click.echo(f"{copied.left_out} checkpoints that the target has dropped were left out")
