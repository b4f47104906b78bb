"""Rows for tests, and a store's whole contents in a form that compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import xxhash

from livingai.errors import CorruptRecordError, StoreError
from livingai.node import ExecutionNode, NodeField, NodeType, Status
from livingai.serial import pack
from livingai.stores.base import Row, RowStatus, Store, StoredCheckpoint

#: ``saved_at`` of row ``seq`` is this plus ``seq`` seconds, so that rows are reproducible.
EPOCH_S = 1_700_000_000.0

STORED, FENCED, REFUSED = RowStatus.STORED, RowStatus.FENCED, RowStatus.REFUSED
BASE_MISSING = RowStatus.BASE_MISSING


def make_row(
    execution_id: str = "run",
    seq: int = 0,
    *,
    node_id: str | None = None,
    claim: str = "claim-a",
    epoch: int = 0,
    blob: bytes | None = None,
    base_hash: bytes | None = None,
    content_hash: bytes | None = None,
    status: Status = Status.SUCCESS,
    **fields: Any,
) -> Row:
    """A row of ``execution_id``; ``fields`` go to its :class:`~livingai.node.ExecutionNode`.

    The node's id is ``<execution_id>/<seq>`` unless given. Rows made with the same arguments are
    equal. ``content_hash`` defaults to a hash of ``blob``.
    """
    node = ExecutionNode(
        execution_id,
        fields.pop("type", NodeType.PROMPT),
        status,
        id=f"{execution_id}/{seq}" if node_id is None else node_id,
        created_at=EPOCH_S,
        **fields,
    )
    if blob is not None and content_hash is None:
        content_hash = xxhash.xxh3_128_digest(blob)
    return Row(
        execution_id=execution_id,
        node_id=node.id,
        claim=claim,
        epoch=epoch,
        seq=seq,
        wire=node.to_wire(),
        blob=blob,
        state_kind=1 if blob is not None else 0,
        raw_bytes=len(blob or b""),
        saved_at=EPOCH_S + seq,
        base_hash=base_hash,
        content_hash=content_hash,
    )


def state(text: str) -> bytes:
    """An encoded checkpoint: the raw codec's byte, then ``text``."""
    return b"\0" + text.encode()


def commit(store: Store, rows: Sequence[Row], status: RowStatus = STORED) -> list[int]:
    """Commit ``rows``, all of which must get ``status``; their epochs."""
    results = store.commit(rows)
    assert [result.status for result in results] == [status] * len(rows), results
    return [result.epoch for result in results]


def statuses(store: Store, rows: Sequence[Row]) -> list[RowStatus]:
    """Commit ``rows``; what became of each."""
    return [result.status for result in store.commit(rows)]


def listing(store: Store) -> dict[str, tuple[Any, ...]]:
    """Everything that ``list_executions`` says, by execution."""
    found: dict[str, tuple[Any, ...]] = {}
    while page := store.list_executions(after=max(found, default=None), limit=100):
        for info in page:
            assert info.execution_id not in found, "a page repeats an execution"
            found[info.execution_id] = (
                info.epoch, info.seq, info.nodes, info.checkpoints, info.stored_bytes,
                info.created_at, info.updated_at, info.status, info.is_run, info.error,
                info.entered_at, info.ended_at,
            )  # fmt: skip
    return found


def contents(store: Store, node_ids: Iterable[str] = ()) -> dict[str, Any]:
    """All that the read methods say of the store, packed where values need not equal themselves.

    ``node_ids`` are asked for in addition to those that are found.
    """
    lines = listing(store)
    answers: dict[str, Any] = {"list": lines}
    ids = set(node_ids)
    for execution_id in lines:
        nodes = list(store.nodes(execution_id))
        ids.update(node.wire[NodeField.ID] for node in nodes)
        answers[f"nodes {execution_id}"] = [
            (pack(node.wire), node.epoch, node.seq, node.has_state, tuple(node.first))
            for node in nodes
        ]
        answers[f"latest {execution_id}"] = checkpoint(store.latest_checkpoint(execution_id))
        answers[f"checkpoints {execution_id}"] = [
            (
                *(checkpoint(found) or ()), found.node_id, found.base_hash, found.content_hash,
                found.raw_bytes, found.stored_bytes, found.saved_at,
            )
            for found in store.checkpoints(execution_id)
        ]  # fmt: skip
        answers[f"owners {execution_id}"] = [tuple(owner) for owner in store.owners(execution_id)]
    for node_id in sorted(ids):
        answers[f"node {node_id}"] = checkpoint(store.load_node(node_id))
    return answers


def checkpoint(found: Any) -> tuple[Any, ...] | None:
    """A :class:`~livingai.stores.base.StoredCheckpoint` as a tuple that compares."""
    if found is None:
        return None
    return (pack(found.wire), found.epoch, found.seq, found.blob, found.state_kind)


def ranged(found: Iterable[StoredCheckpoint]) -> list[tuple[Any, ...]]:
    """What ``nodes_between`` answers, as tuples that compare: id, first version, then as
    :func:`checkpoint`."""
    return [(each.node_id, tuple(each.first), *(checkpoint(each) or ())) for each in found]


def reads_or_refuses(read: Any, expected: Any) -> bool:
    """Whether ``read()`` raises a CorruptRecordError, which has to be a StoreError too; what it
    returns must be ``expected``."""
    try:
        found = read()
    except CorruptRecordError as error:
        caught = error
    else:
        assert found == expected, "a read returned what was never written"
        return False
    assert isinstance(caught, StoreError), "`except StoreError` must catch it"
    return True
