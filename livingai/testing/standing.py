"""Rule 10: a run has the status of its last life. Part of
:class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from livingai.errors import ConfigurationError
from livingai.node import ErrorInfo, NodeField, NodeType, Status
from livingai.stores.base import ExecutionFilter, ExecutionInfo, Row, Store
from livingai.stores.copying import copy_execution
from livingai.testing.rows import EPOCH_S, commit, make_row

_ERROR = ErrorInfo("pkg.Outer.Trouble", "two\nlines\0", "a traceback")


def life(seq: int, status: Status, *, node_id: str = "life", **fields: Any) -> Row:
    """The record of a life, as ``engine.run`` writes it."""
    metadata = {"name": "run", "role": "run", "host": "h", "pid": 1}
    return make_row(
        seq=seq, node_id=node_id, status=status, type=NodeType.MEMORY,
        **{"metadata": metadata, **fields},
    )  # fmt: skip


def only(store: Store) -> ExecutionInfo:
    """The store's only line."""
    (info,) = store.list_executions()
    return info


class StandingTests:
    """A run has a status of its own; whatever else is written to it does not change it."""

    def test_a_run_is_running_until_it_has_ended(self, store: Store) -> None:
        commit(store, [life(0, Status.RUNNING), make_row(seq=1)])
        assert (only(store).status, only(store).is_run) == ("running", True), "killed behind a step"
        assert (only(store).entered_at, only(store).ended_at) == (EPOCH_S, None)
        commit(store, [make_row(seq=2, status=Status.FAILED, error=_ERROR)])
        assert (only(store).status, only(store).error) == ("running", "")
        commit(store, [life(3, Status.SUCCESS, completed_at=EPOCH_S + 9)])
        commit(store, [make_row(seq=4, status=Status.RUNNING)])
        info = only(store)
        assert (info.status, info.error, info.ended_at) == ("success", "", EPOCH_S + 9)
        assert (info.seq, info.updated_at) == (4, EPOCH_S + 4), "the rest is the newest write's"

    def test_the_last_life_counts(self, store: Store) -> None:
        commit(store, [life(0, Status.RUNNING), life(1, Status.FAILED, error=_ERROR)])
        info = only(store)
        assert (info.status, info.error) == ("failed", "pkg.Outer.Trouble: two lines\\0")
        commit(store, [life(0, Status.PENDING, node_id="second", claim="b")])
        assert only(store).status == "failed", "a process that only looks changes nothing"
        commit(store, [life(1, Status.RUNNING, node_id="second", claim="b")])
        assert (only(store).status, only(store).error) == ("running", "")
        commit(store, [make_row(seq=5, claim="b")])
        assert only(store).status == "running"

    def test_whatever_the_order(self, store: Store) -> None:
        rows = [
            life(0, Status.PENDING), life(1, Status.RUNNING), make_row(seq=2),
            life(3, Status.FAILED, error=_ERROR, completed_at=EPOCH_S), make_row(seq=4),
        ]  # fmt: skip
        for number, order in enumerate(itertools.permutations(rows)):
            again = [_renamed(row, f"run-{number}") for row in order]
            if number % 2:
                commit(store, again)
            else:
                for row in again:
                    commit(store, [row])
        found = {
            (info.status, info.error, info.is_run, info.entered_at, info.ended_at, info.nodes)
            for info in store.list_executions(limit=1000)
        }
        line = "pkg.Outer.Trouble: two lines\\0"
        assert found == {("failed", line, True, EPOCH_S, EPOCH_S, 3)}

    def test_other_executions_stand_as_their_newest_write(self, store: Store) -> None:
        commit(store, [make_row(seq=0, status=Status.RUNNING)])
        commit(store, [make_row(seq=2, status=Status.FAILED, error=_ERROR)])
        commit(store, [make_row(seq=1)])
        info = only(store)
        assert (info.status, info.error[:17], info.is_run) == ("failed", "pkg.Outer.Trouble", False)
        assert (info.entered_at, info.ended_at) == (None, None)
        recovery = {"name": "recovery", "role": "run"}
        commit(store, [life(3, Status.SUCCESS, claim="b", metadata=recovery)])
        commit(store, [make_row(seq=4, claim="b", status=Status.RUNNING)])
        assert (only(store).status, only(store).is_run, only(store).error) == ("running", False, "")

    @pytest.mark.parametrize("metadata", [{"role": "run"}, {"role": b"run"}, {"role": ["run"]}, {}])
    def test_what_is_no_life(self, store: Store, metadata: dict[str, Any]) -> None:
        """A message's role, say: only ``engine.run`` writes lives."""
        commit(store, [make_row(seq=0, status=Status.RUNNING, metadata=metadata)])
        commit(store, [make_row(seq=1)])
        assert (only(store).status, only(store).is_run) == ("success", False)

    def test_a_delete_forgets_the_run(self, store: Store) -> None:
        commit(store, [life(9, Status.FAILED, error=_ERROR)])
        store.delete_execution("run")
        commit(store, [make_row(seq=0, claim="b", status=Status.RUNNING)])
        commit(store, [make_row(seq=1, claim="b")])
        assert (only(store).status, only(store).error, only(store).is_run) == ("success", "", False)

    def test_fenced_rows_change_no_status(self, store: Store) -> None:
        commit(store, [life(0, Status.RUNNING)])
        commit(store, [life(0, Status.RUNNING, node_id="second", claim="b")])
        store.commit([life(1, Status.FAILED, error=_ERROR)])
        assert (only(store).status, only(store).error) == ("running", "")

    def test_copies_and_forks_stand_alike(self, store: Store) -> None:
        commit(store, [life(0, Status.RUNNING), make_row(seq=1), life(2, Status.SUCCESS)])
        commit(store, [life(0, Status.PENDING, node_id="two", claim="b"), make_row(seq=3)][:1])
        commit(store, [life(1, Status.RUNNING, node_id="two", claim="b")])
        commit(store, [make_row(seq=2, claim="b")])
        copy_execution(store, store, "run", "fork")
        fork, run = store.list_executions()
        assert (fork.status, fork.is_run) == (run.status, run.is_run) == ("running", True)

    def test_unknown_statuses_are_refused(self, store: Store) -> None:
        for wrong in (("done",), ("success", "SUCCESS"), "success"):
            with pytest.raises(ConfigurationError, match="pending, running, success, failed"):
                store.list_executions(where=ExecutionFilter(statuses=wrong))  # type: ignore[arg-type]
        assert store.list_executions(where=ExecutionFilter(statuses=(Status.FAILED,))) == []


def _renamed(row: Row, execution_id: str) -> Row:
    node = list(row.wire)
    node[NodeField.EXECUTION_ID] = execution_id
    node[NodeField.ID] = f"{execution_id}/{row.wire[NodeField.ID]}"
    return Row(
        execution_id, str(node[NodeField.ID]), row.claim, row.epoch, row.seq, node, row.blob,
        row.state_kind, row.raw_bytes, row.saved_at,
    )  # fmt: skip
