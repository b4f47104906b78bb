"""What a store holds, in a form that two stores of different kinds can be compared by."""

from __future__ import annotations

from typing import Any

from livingai.node import NodeField
from livingai.serial import pack
from livingai.stores.base import SizedBlob, Store
from livingai.stores.copying import find_execution
from livingai.stores.opening import open_store
from livingai.stores.states import StateDecoder


def held(url: str) -> dict[str, Any]:
    """Everything that a reader of the store sees of its executions: lines, nodes in their order,
    states decoded, owners, sums of costs. Without how it is encoded, and without ``updated_at``: no
    store keeps when a write without a state was saved, so a copy says when its node ended."""
    with open_store(url) as store:
        runs = [info.execution_id for info in store.list_executions(limit=10_000)]
        costs = sorted(store.costs(group="execution"), key=lambda line: line.group)
        return {run: _run(store, run) for run in runs} | {"costs": costs}


def _run(store: Store, run: str) -> dict[str, Any]:
    info = find_execution(store, run)
    assert info is not None
    decoder = StateDecoder(store, run, max_bytes=1 << 30, remembered=2, remembered_bytes=1 << 28)
    return {
        "line": (info.epoch, info.seq, info.nodes, info.checkpoints, info.status, info.is_run,
                 info.error, info.entered_at, info.ended_at),
        "nodes": [(pack(node.wire), node.epoch, node.seq, node.first) for node in store.nodes(run)],
        "states": [
            (found.epoch, found.seq, found.wire[NodeField.ID], found.state_kind, found.saved_at,
             decoder.decode_next(SizedBlob(found.blob or b"", found.raw_bytes), found.content_hash))
            for found in store.checkpoints(run)
        ],
        "owners": store.owners(run),
    }  # fmt: skip
