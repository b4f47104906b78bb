"""Conformance: what a commit does (rules 1, 3, 4, 5). Part of
:class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livingai.node import NodeField, Status
from livingai.stores.base import Row, Store
from livingai.testing.model import StoreModel
from livingai.testing.rows import (
    BASE_MISSING,
    FENCED,
    REFUSED,
    STORED,
    commit,
    contents,
    listing,
    make_row,
    state,
    statuses,
)


def history() -> list[list[Row]]:
    """Batches of two executions: nodes saved twice, with and without state, in growing seq."""
    rows = [
        make_row(
            execution_id,
            seq,
            node_id=f"{execution_id}/{seq // 2}",
            status=Status.SUCCESS if seq % 2 else Status.RUNNING,
            blob=state(f"{execution_id} {seq}") if seq % 3 else None,
            cost_tokens=seq,
        )
        for seq in range(12)
        for execution_id in ("x", "y")
    ]
    return [rows[at : at + 5] for at in range(0, len(rows), 5)]


BAD_ROWS: dict[str, Callable[[Row], Row]] = {
    "a value that cannot be packed": lambda row: replace(row, wire=[*row.wire[:9], {1: object()}]),
    "an empty claim": lambda row: replace(row, claim=""),
    "a negative seq": lambda row: replace(row, seq=-1),
    "a seq of more than 63 bits": lambda row: replace(row, seq=1 << 63),
    "a node section of another node": lambda row: replace(row, wire=make_row("else").wire),
    "a truncated node section": lambda row: replace(row, wire=row.wire[:4]),
    "a blob that is no bytes": lambda row: replace(row, blob="text"),  # type: ignore[arg-type]
}


class WritingTests:
    """Idempotence, order, atomicity and bad rows."""

    def make_store(self, tmp_path: Path) -> Store:
        raise NotImplementedError

    # -- rule 1: conditional and idempotent --

    def test_empty_batch(self, store: Store) -> None:
        assert store.commit([]) == []

    def test_one_result_per_row_in_order(self, store: Store) -> None:
        rows = [make_row(f"run-{number % 7}", number) for number in range(50)]
        results = store.commit(rows)
        assert [(result.status, result.epoch) for result in results] == [(STORED, 1)] * 50

    def test_committing_again_changes_nothing(self, store: Store) -> None:
        for batch in history():
            commit(store, batch)
        before = contents(store)
        for batch in history():
            commit(store, batch)
        assert contents(store) == before

    @pytest.mark.parametrize("seed", range(4))
    def test_replay_of_batches_in_any_order(self, store: Store, seed: int) -> None:
        batches = history()
        for batch in batches:
            commit(store, batch)
        before = contents(store)
        shuffle = random.Random(seed).shuffle
        shuffle(batches)
        for batch in batches:
            shuffle(batch)
            commit(store, batch)
        assert contents(store) == before

    @pytest.mark.parametrize("seed", range(4))
    def test_first_commit_in_any_order(self, store: Store, seed: int) -> None:
        rows = [row for batch in history() for row in batch]
        random.Random(seed).shuffle(rows)
        model = StoreModel()
        for row in rows:
            commit(store, [row])
            model.commit([row])
        assert contents(store) == model.contents()

    def test_same_row_twice_in_one_batch(self, store: Store) -> None:
        row = make_row(blob=state("s"), cost_tokens=5)
        commit(store, [row, row, make_row(seq=1), row])
        assert listing(store)["run"][2:5] == (2, 1, len(state("s")))

    def test_replay_after_reopening(self, store: Store) -> None:
        for batch in history():
            commit(store, batch)
        before = contents(store)
        store.close()
        store.open()
        for batch in history():
            commit(store, batch)
        assert contents(store) == before

    # -- rule 3: order never goes back --

    def test_node_is_its_newest_version(self, store: Store) -> None:
        commit(store, [make_row(seq=5, node_id="n", output="newer")])
        commit(store, [make_row(seq=4, node_id="n", output="older", blob=state("older"))])
        (node,) = store.nodes("run")
        assert (node.wire[NodeField.OUTPUT], node.seq, node.has_state) == ("newer", 5, False)
        found = store.load_node("n")
        assert found is not None
        assert (found.wire[NodeField.OUTPUT], found.blob) == ("newer", state("older"))

    def test_state_that_comes_late_joins_its_node(self, store: Store) -> None:
        commit(store, [make_row(seq=2, node_id="n", output="first"), make_row(seq=3, node_id="m")])
        commit(store, [make_row(seq=9, node_id="n", output="newest")])
        commit(store, [make_row(seq=5, node_id="n", output="late", blob=state("late"))])
        commit(store, [make_row(seq=4, node_id="n", blob=state("later, and older"))])
        found = store.load_node("n")
        assert found is not None
        assert (found.wire[NodeField.OUTPUT], found.seq, found.blob) == ("newest", 9, state("late"))
        commit(store, [make_row(seq=1, node_id="m")])
        assert [node.wire[NodeField.ID] for node in store.nodes("run")] == ["m", "n"], (
            "not by first save"
        )

    def test_latest_is_the_maximum(self, store: Store) -> None:
        commit(store, [make_row(seq=7, blob=state("7"))])
        commit(store, [make_row(seq=6, blob=state("6")), make_row(seq=5, blob=state("5"))])
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert (latest.seq, latest.blob) == (7, state("7"))
        assert listing(store)["run"][:4] == (1, 7, 3, 3)
        commit(store, [make_row("b", 7, status=Status.FAILED), make_row("b", 5)])
        line = listing(store)["b"]
        assert (line[:3], line[7]) == ((1, 7, 2), "failed")

    def test_epoch_goes_before_seq(self, store: Store) -> None:
        commit(store, [make_row(seq=99, claim="old", node_id="n", blob=state("old"))])
        commit(store, [make_row(seq=0, claim="new", node_id="n", blob=state("new"))])
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert (latest.epoch, latest.seq, latest.blob) == (2, 0, state("new"))

    # -- rule 4: a batch is atomic per execution --

    def test_no_part_of_a_batch_is_visible(self, store: Store, tmp_path: Path) -> None:
        done = threading.Event()
        failures: list[BaseException] = []

        def write() -> None:
            try:
                with self.make_store(tmp_path) as writer:
                    for number in range(25):
                        rows = [make_row(seq=number * 20 + row) for row in range(20)]
                        commit(writer, rows)
            except BaseException as error:
                failures.append(error)
            finally:
                done.set()

        thread = threading.Thread(target=write)
        thread.start()
        try:
            seen = 0
            while not done.is_set():
                count = sum(1 for _ in store.nodes("run"))
                assert count >= seen
                for info in store.list_executions():
                    assert info.nodes % 20 == 0, "half a batch is visible"
                seen = count
        finally:
            thread.join(60)
        assert not failures
        assert listing(store)["run"][2] == 500

    # -- rule 5: one bad row spoils nothing but itself --

    @pytest.mark.parametrize("what", BAD_ROWS)
    def test_bad_row_spoils_nothing_but_itself(self, store: Store, what: str) -> None:
        bad = BAD_ROWS[what](make_row(seq=1, blob=state("bad")))
        rows: list[Any] = [make_row(seq=0), bad, make_row(seq=2, blob=state("2")), make_row("b")]
        results = store.commit(rows)
        assert [result.status for result in results] == [STORED, REFUSED, STORED, STORED], results
        assert results[1].reason, "a refused row needs a reason"
        assert sum(1 for _ in store.nodes("run")) == 2
        assert statuses(store, rows) == [STORED, REFUSED, STORED, STORED]

    # -- rule 8: a delta needs its base --

    def test_delta_without_its_base_is_sent_back(self, store: Store) -> None:
        one, two = b"1" * 16, b"2" * 16
        delta = make_row(seq=1, blob=state("delta"), content_hash=two, base_hash=one)
        assert statuses(store, [delta]) == [BASE_MISSING]
        assert listing(store) == {}
        other = make_row("other", 0, blob=state("full"), content_hash=one)
        assert statuses(store, [other, delta, make_row(seq=2)]) == [STORED, BASE_MISSING, STORED]
        assert store.blob_by_hash("run", two) is None
        full = make_row(seq=1, blob=state("full"), content_hash=two)
        assert statuses(store, [full]) == [STORED]
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert latest.blob == state("full")

    def test_delta_whose_base_is_before_it_in_the_batch(self, store: Store) -> None:
        one, two = b"1" * 16, b"2" * 16
        base = make_row(seq=0, blob=state("full"), content_hash=one)
        delta = make_row(seq=1, blob=state("delta"), content_hash=two, base_hash=one)
        assert statuses(store, [delta, base]) == [BASE_MISSING, STORED]
        assert statuses(store, [base, delta]) == [STORED, STORED]
        again = replace(delta, seq=2, claim="next")
        assert statuses(store, [again]) == [STORED], "the base of an earlier owner"

    def test_delta_on_a_delta_that_is_sent_back(self, store: Store) -> None:
        first = make_row(seq=0, blob=state("1"), content_hash=b"2" * 16, base_hash=b"1" * 16)
        second = make_row(seq=1, blob=state("2"), content_hash=b"3" * 16, base_hash=b"2" * 16)
        assert statuses(store, [first, second]) == [BASE_MISSING, BASE_MISSING]
        assert listing(store) == {}

    def test_row_without_a_state_is_no_base(self, store: Store) -> None:
        bare = make_row(seq=0, content_hash=b"1" * 16)
        delta = make_row(seq=1, blob=state("d"), content_hash=b"2" * 16, base_hash=b"1" * 16)
        assert statuses(store, [bare, delta]) == [STORED, BASE_MISSING]
        assert statuses(store, [delta]) == [BASE_MISSING]

    def test_stored_delta_stays_stored_without_its_base(self, store: Store) -> None:
        base = make_row(seq=0, blob=state("full"), content_hash=b"1" * 16)
        delta = make_row(seq=1, blob=state("d"), content_hash=b"2" * 16, base_hash=b"1" * 16)
        commit(store, [base, delta])
        store.drop_checkpoints("run", [(1, 0)])
        assert statuses(store, [delta]) == [STORED]

    def test_delta_without_its_base_is_fenced_first(self, store: Store) -> None:
        commit(store, [make_row(claim="old"), make_row(seq=0, claim="new", node_id="n")])
        delta = make_row(seq=5, claim="old", blob=state("d"), base_hash=b"1" * 16)
        assert statuses(store, [delta]) == [FENCED]

    @pytest.mark.parametrize("field", ["execution_id", "node_id"])
    def test_id_that_is_no_text_is_stored_or_refused(self, store: Store, field: str) -> None:
        odd = "odd \ud800"
        bad = make_row(odd) if field == "execution_id" else make_row(seq=1, node_id=odd)
        results = store.commit([make_row(), bad, make_row(seq=2)])
        assert [results[0].status, results[2].status] == [STORED, STORED]
        assert results[1].status in (STORED, REFUSED)
        found = store.load_node(bad.node_id) if results[1].status == STORED else None
        assert found is None or found.wire == bad.wire
