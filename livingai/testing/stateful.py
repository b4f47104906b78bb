"""A Hypothesis state machine that any store must survive: see :func:`store_machine`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livingai.errors import FencedError
from livingai.node import Status
from livingai.stores.base import Row, Store
from livingai.testing.model import StoreModel
from livingai.testing.rows import contents, make_row, state

EXECUTIONS = ("a", "ü/\0")
NODES = 3
_executions = st.sampled_from(EXECUTIONS)
_connections = st.integers(0, 1)
#: Whose row it is: mostly the owner's, else that of a claim by number, old or new.
_claims = st.sampled_from([None, None, None, None, 0, 1, 2, 3, 4, 5])
#: (execution, claim, seq, node, has state): small ranges, so that rows collide in every way.
_rows = st.lists(
    st.tuples(_executions, _claims, st.integers(0, 11), st.integers(0, NODES - 1), st.booleans()),
    min_size=1,
    max_size=8,
)


def store_machine(make_store: Callable[[Path], Store]) -> type[RuleBasedStateMachine]:
    """A state machine that commits, replays, claims, deletes and reopens, on two connections, and
    after each step compares all that the store says with :class:`~livingai.testing.StoreModel`.

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

        def issue(
            self, execution_id: str, number: int | None, seq: int, node: int, has_state: bool
        ) -> Row:
            """The row of that name: one (execution, claim, seq) is one row for ever."""
            claim = f"claim-{number}"
            if number is None:
                claim = self.model.owner(execution_id) or "claim-0"
            key = (execution_id, claim, seq)
            if key not in self.issued:
                text = f"{execution_id} {claim} {seq}"
                self.issued[key] = make_row(
                    execution_id,
                    seq,
                    node_id=f"{execution_id}/{node}",
                    claim=claim,
                    blob=state(text) if has_state else None,
                    status=list(Status)[seq % len(Status)],
                    output=text,
                    cost_tokens=seq,
                )
            return self.issued[key]

        def check_commit(self, store: Store, rows: list[Row]) -> None:
            results = [(result.status, result.epoch) for result in store.commit(rows)]
            expected = [(result.status, result.epoch) for result in self.model.commit(rows)]
            assert results == expected

        @rule(which=_connections, names=_rows)
        def commit(self, which: int, names: list[Any]) -> None:
            rows = [self.issue(*name) for name in names]
            self.batches.append(rows)
            self.check_commit(self.stores[which], rows)

        @rule(which=_connections, data=st.data())
        def replay(self, which: int, data: st.DataObject) -> None:
            if self.batches:
                rows = data.draw(st.sampled_from(self.batches))
                self.check_commit(self.stores[which], data.draw(st.permutations(rows)))

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
        def blobs_by_hash(self) -> None:
            latest = {
                key.removeprefix("latest "): told
                for key, told in self.model.contents().items()
                if key.startswith("latest ") and told[3] is not None
            }
            for row in self.issued.values():
                if row.blob is None or row.content_hash is None:
                    continue
                found = self.stores[0].blob_by_hash(row.execution_id, row.content_hash)
                assert found in (None, row.blob)
                if latest.get(row.execution_id, (None,) * 5)[3] == row.blob:
                    assert found == row.blob

    return StoreMachine
