"""Commands on what a store holds: ``prune``, ``delete``, ``fork``, ``copy``."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import Progress

from livingai.cli_where import engine_on, existing_store
from livingai.engine import CheckpointEngine
from livingai.queue.directory import StateDirectory
from livingai.stores.base import Store
from livingai.stores.copying import copy_store, refuse_same
from livingai.stores.opening import open_store
from livingai.stores.retention import Retention


@click.command()
@click.argument("where")
@click.option("--keep-last", type=int, help="Keep so many checkpoints of each execution.")
@click.option("--max-age", type=float, help="Drop checkpoints older than so many days.")
@click.option("--expire", type=float, help="Delete executions untouched for so many days.")
@click.option("--status", "statuses", multiple=True, help="Only executions of this status.")
@click.option("--prefix", default="", help="Only executions whose id begins so (a tenant).")
def prune(
    where: str,
    keep_last: int | None,
    max_age: float | None,
    expire: float | None,
    statuses: tuple[str, ...],
    prefix: str,
) -> None:
    """Drop old checkpoints; never one that another still needs. Agents may go on writing."""
    if keep_last is None and max_age is None and expire is None:
        raise click.UsageError("say what to drop: --keep-last, --max-age or --expire")
    policy = Retention(keep_last, _seconds(max_age), _seconds(expire), statuses, prefix)
    policy.validate()
    with engine_on(where) as engine:
        before = engine.size_sync()
        pruned = engine.prune_sync(policy)
        after = engine.size_sync()
    click.echo(
        f"dropped {pruned.checkpoints} checkpoints ({pruned.blob_bytes} bytes) and "
        f"{pruned.executions} executions; the store went from {before} to {after} bytes"
    )


@click.command()
@click.argument("where")
@click.argument("execution_id")
def delete(where: str, execution_id: str) -> None:
    """Delete an execution for good. Exit status 1 if there was none."""
    with engine_on(where) as engine:
        deleted = engine.delete_sync(execution_id)
    if not deleted:
        raise click.ClickException(f"no execution {execution_id!r} in {where}; nothing was deleted")
    click.echo(f"deleted {deleted} nodes of {execution_id}")


@click.command()
@click.argument("where")
@click.argument("execution_id")
@click.argument("new_id")
def fork(where: str, execution_id: str, new_id: str) -> None:
    """Copy an execution under a new id."""
    with engine_on(where) as engine:
        click.echo(f"copied {engine.fork_sync(execution_id, new_id)} nodes to {new_id}")


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--prefix", default="", help="Only executions whose id begins so.")
def copy(source: str, target: str, prefix: str) -> None:
    """Copy everything from store SOURCE to store TARGET; run it again to resume or catch up.

    What is queued for either on this machine is stored first. Where TARGET has another run under
    one of the ids, or went on with one by itself, nothing at all is copied.
    """
    with existing_store(source) as have, open_store(target) as want:
        refuse_same(have, want)
    _drain(have)
    _drain(want)
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


def _drain(store: Store) -> None:
    """Have what waits in a store's journals stored, if there are any."""
    directory = StateDirectory(store.default_directory())
    if directory.journal_paths():
        with CheckpointEngine(store) as engine:
            engine.drain_sync()


def _seconds(days: float | None) -> float | None:
    return None if days is None else days * 86_400
