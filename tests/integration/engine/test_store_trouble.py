"""A store that takes no writes is seen in ``engine.sla()``, and seen to be over."""

from __future__ import annotations

from contextlib import closing

import apsw

from livingai import CheckpointEngine, ExecutionNode
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import until


def test_a_foreign_lock_is_seen_and_nothing_is_lost(state_dir: Place) -> None:
    with CheckpointEngine(state_dir.store()) as engine:
        assert engine.save_sync(ExecutionNode("run-1"), b"before").result(patience(30)).stored
        assert engine.sla().trouble == ""
        with closing(apsw.Connection(str(state_dir.database))) as other:
            other.execute("BEGIN IMMEDIATE")
            receipts = [engine.save_sync(ExecutionNode("run-1"), b"%d" % n) for n in range(20)]
            until(lambda: "lock" in engine.sla().trouble, what="trouble told", timeout=30)
            assert not any(receipt.done() for receipt in receipts)
            other.execute("ROLLBACK")
        assert all(receipt.result(patience(30)).stored for receipt in receipts)
        until(lambda: engine.sla().trouble == "", what="trouble over", timeout=30)
        assert engine.latest_sync("run-1")[1] == b"19"
