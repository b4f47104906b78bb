"""A Hypothesis state machine that any store must survive: see :func:`store_machine`."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livingai.errors import FencedError
from livingai.node import ErrorInfo, NodeType, Status
from livingai.stores.base import Row, Store
from livingai.stores.ranges import NodeRange
from livingai.stores.records import ExecutionFilter
from livingai.stores.retention import Retention, prune
from livingai.testing.model import StoreModel
from livingai.testing.rows import EPOCH_S, contents, make_row, ranged, state

EXECUTIONS = ("a", "ü/\0")
NODES = 3
_executions = st.sampled_from(EXECUTIONS)
_connections = st.integers(0, 1)
#: Whose row it is: mostly the owner's, else that of a claim by number, old or new.
_claims = st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4, 5])
#: What a row carries: nothing, a full state, or a delta against the state of that seq.
_states = st.sampled_from([None, None, "full", "full", 0, 1, 2, 3, 4])
#: (execution, claim, seq, node, state): small ranges, so that rows collide in every way.
_rows = st.lists(
    st.tuples(_executions, _claims, st.integers(0, 11), st.integers(0, NODES - 1), _states),
    min_size=1,
    max_size=8,
)


def _ranges() -> st.SearchStrategy[NodeRange]:
    ids = [f"{execution_id}/{node}" for execution_id in EXECUTIONS for node in range(NODES)]
    texts = st.sampled_from([*ids, "", "a/", "b", "ü/\0/", "ü/\0/1\0", "\U0010ffff"])
    versions = st.none() | st.tuples(st.integers(0, 4), st.integers(-1, 5))
    return st.builds(
        NodeRange,
        first=texts,
        behind=st.none() | texts,
        limit=st.sampled_from([1, 2, 100]),
        backwards=st.booleans(),
        states=st.booleans(),
        after=versions,
        upto=versions,
    )


def store_machine(make_store: Callable[[Path], Store]) -> type[RuleBasedStateMachine]:
    """A state machine that commits, replays, claims, drops, prunes, deletes, forgets and reopens,
    on two connections, reads ranges of nodes, and after each step compares all that the store says
    (its pages, filters and sums, too) with :class:`~livingai.testing.StoreModel`.

    ``make_store(directory)`` gives a connection to the store of that directory: a fresh one for a
    new directory, another connection to the same one for the same. Use it in a test module as
    ``TestMachine = store_machine(make_store).TestCase``.
    """

    class StoreMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.directory = Path(tempfile.mkdtemp(prefix="livingai-store-"))
            self.model = StoreModel()
            self.issued: dict[tuple[str, str, int], Row] = {}
            self.batches: list[list[Row]] = []
            self.stores: list[Store] = []
            for _ in range(2):
                store = make_store(self.directory)
                store.open()
                self.stores.append(store)

        def teardown(self) -> None:
            for store in self.stores:
                store.close()
            shutil.rmtree(self.directory, ignore_errors=True)

        def issue(self, model: StoreModel, name: tuple[Any, ...]) -> Row:
            """The row of that name: one (execution, claim, seq) is one row for ever."""
            execution_id, number, seq, node, carries = name
            claim = f"claim-{number}"
            if number is None:
                claim = model.owner(execution_id) or "claim-0"
            key = (execution_id, claim, seq)
            if key not in self.issued:
                row = issued_row(key, node, carries)
                self.issued[key] = issued_row(key, node, "full") if model.seems_stored(row) else row
            return self.issued[key]

        def check_commit(self, store: Store, rows: list[Row]) -> None:
            results = [(result.status, result.epoch) for result in store.commit(rows)]
            expected = [(result.status, result.epoch) for result in self.model.commit(rows)]
            assert results == expected

        @rule(which=_connections, names=_rows)
        def commit(self, which: int, names: list[Any]) -> None:
            trial = copy.deepcopy(self.model)
            rows = []
            for name in names:
                rows.append(self.issue(trial, name))
                trial.commit(rows[-1:])
            self.batches.append(rows)
            self.check_commit(self.stores[which], rows)

        @rule(which=_connections, execution_id=_executions, length=st.integers(2, 4))
        def chain(self, which: int, execution_id: str, length: int) -> None:
            """A new owner's state, and deltas each on the one before."""
            claim = f"chain-{len(self.batches)}"
            rows = [
                issued_row((execution_id, claim, seq), seq % NODES, seq - 1 if seq else "full")
                for seq in range(length)
            ]
            self.issued |= {(execution_id, claim, row.seq): row for row in rows}
            self.batches.append(rows)
            self.check_commit(self.stores[which], rows)

        @rule(which=_connections, data=st.data())
        def replay(self, which: int, data: st.DataObject) -> None:
            if self.batches:
                rows = data.draw(st.sampled_from(self.batches))
                rows = [row for row in rows if not self.model.is_dropped(row)]
                self.check_commit(self.stores[which], data.draw(st.permutations(rows)))

        @rule(
            which=_connections,
            execution_id=_executions,
            versions=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 11)), max_size=12),
        )
        def drop(self, which: int, execution_id: str, versions: list[tuple[int, int]]) -> None:
            dropped = self.stores[which].drop_checkpoints(execution_id, versions)
            assert dropped == self.model.drop(execution_id, versions)

        @rule(
            which=_connections,
            execution_id=_executions,
            writes=st.lists(st.tuples(st.integers(0, NODES - 1), _states), max_size=6),
            nodes=st.sets(st.integers(0, NODES)),
            asked=_ranges(),
        )
        def drop_nodes(
            self,
            which: int,
            execution_id: str,
            writes: list[tuple[int, Any]],
            nodes: set[int],
            asked: NodeRange,
        ) -> None:
            """A new owner's writes, nodes that shall go then (one may be a node that was never
            there), and a range of what is left; no delta loses its base."""
            claim = f"drop-{len(self.batches)}"
            rows = [
                issued_row((execution_id, claim, seq), node, carries)
                for seq, (node, carries) in enumerate(writes)
            ]
            self.issued |= {(execution_id, claim, row.seq): row for row in rows}
            self.batches.append(rows)
            self.check_commit(self.stores[which], rows)
            whole = self.lacks_no_base(execution_id)
            ids = [f"{execution_id}/{node}" for node in nodes]
            dropped = self.stores[which].drop_nodes(execution_id, ids)
            assert dropped == self.model.drop_nodes(execution_id, ids)
            assert self.lacks_no_base(execution_id) or not whole
            upto = self.model.dropped_upto(execution_id)
            assert [store.dropped_upto(execution_id) for store in self.stores] == [upto] * 2
            for store in self.stores:
                found = ranged(store.nodes_between(execution_id, asked))
                assert found == self.model.nodes_between(execution_id, asked)

        @rule(which=_connections, execution_id=_executions, claim=st.integers(0, 6))
        def claim(self, which: int, execution_id: str, claim: int) -> None:
            expected = self.model.claim(execution_id, f"claim-{claim}")
            try:
                epoch: int | None = self.stores[which].claim(execution_id, f"claim-{claim}")
            except FencedError:
                epoch = None
            assert epoch == expected

        @rule(which=_connections, execution_id=_executions)
        def delete(self, which: int, execution_id: str) -> None:
            deleted = self.stores[which].delete_execution(execution_id)
            assert deleted == self.model.delete(execution_id)

        @rule(which=_connections, execution_id=_executions)
        def forget(self, which: int, execution_id: str) -> None:
            if self.stores[which].forget(execution_id):
                self.model.forget(execution_id)

        @rule(which=_connections, keep_last=st.integers(1, 3))
        def prune(self, which: int, keep_last: int) -> None:
            """What a dry run lists is what goes; and no delta loses its base."""
            store, policy = self.stores[which], Retention(keep_last=keep_last)
            listed = prune(store, policy, dry_run=True).dropped
            whole = {name for name in EXECUTIONS if self.lacks_no_base(name)}
            expected = sum(self.model.drop(one.execution_id, one.versions) for one in listed)
            assert prune(store, policy).blob_bytes == expected
            assert {name for name in whole if self.lacks_no_base(name)} == whole

        def lacks_no_base(self, execution_id: str) -> bool:
            """Whether all states of an execution can be decoded."""
            found = self.model.contents().get(f"checkpoints {execution_id}", [])
            bases = {checkpoint[6] for checkpoint in found} - {None}
            return all(self.model.blob_by_hash(execution_id, base) is not None for base in bases)

        @rule(which=_connections)
        def reopen(self, which: int) -> None:
            self.stores[which].close()
            self.stores[which].open()

        @invariant()
        def same_contents(self) -> None:
            expected = self.model.contents()
            names = [
                f"{execution_id}/{node}" for execution_id in EXECUTIONS for node in range(NODES)
            ]
            for name in names:
                expected.setdefault(f"node {name}", None)
            for store in self.stores:
                assert contents(store, names) == expected

        @invariant()
        def pages_filters_and_costs(self) -> None:
            lines = self.model.contents()["list"]
            store = self.stores[0]
            paged: list[str] = []
            while page := store.list_executions(after=paged[-1] if paged else None, limit=1):
                paged += [info.execution_id for info in page]
            assert paged == sorted(lines)
            for name in EXECUTIONS:
                found = store.list_executions(prefix=name[:1])
                assert [info.execution_id for info in found] == [name] * (name in lines)
            for status in Status:
                found = store.list_executions(where=ExecutionFilter(statuses=(status,)))
                fitting = sorted(name for name, line in lines.items() if line[7] == status)
                assert [info.execution_id for info in found] == fitting
            for seconds in {line[6] for line in lines.values()}:
                found = store.list_executions(where=ExecutionFilter(updated_after=seconds))
                fitting = sorted(name for name, line in lines.items() if line[6] > seconds)
                assert [info.execution_id for info in found] == fitting
            assert store.costs() == self.model.costs()

        @invariant()
        def blobs_by_hash(self) -> None:
            for execution_id in EXECUTIONS:
                for seq in range(12):
                    content_hash = b"%16d" % seq
                    expected = self.model.blob_by_hash(execution_id, content_hash)
                    assert self.stores[0].blob_by_hash(execution_id, content_hash) == expected

    return StoreMachine


def issued_row(key: tuple[str, str, int], node: int, carries: Any) -> Row:
    """A row of the machine; ``carries`` as in ``_states``."""
    execution_id, claim, seq = key
    return make_row(
        execution_id,
        seq,
        node_id=f"{execution_id}/{node}",
        claim=claim,
        blob=None if carries is None else state(f"{key} {carries}"),
        # Some states are equal: their hash does not name the claim.
        content_hash=None if carries is None else b"%16d" % seq,
        base_hash=b"%16d" % carries if isinstance(carries, int) else None,
        status=list(Status)[seq % len(Status)],
        error=ErrorInfo("ValueError", f"no {seq}") if seq % len(Status) == 3 else None,
        # Some are nodes of a life; one of them is PENDING, so it says nothing of its execution.
        type=NodeType.MEMORY if seq % 5 in (1, 4) else NodeType.PROMPT,
        metadata={"name": "run", "role": "run"} if seq % 5 in (1, 4) else {},
        completed_at=EPOCH_S + seq if seq % 2 else None,
        output=claim,
        cost_tokens=seq,
    )
