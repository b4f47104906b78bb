"""Conformance: which claim may write (rules 2 and 7). Part of
:class:`~livingai.testing.StoreConformance`."""

from __future__ import annotations

import pytest

from livingai.errors import FencedError
from livingai.stores.base import Store
from livingai.testing.rows import (
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


class OwningTests:
    """Claims, epochs, fencing and deletes."""

    def test_first_claim_takes_epoch_1_and_keeps_it(self, store: Store) -> None:
        assert commit(store, [make_row(seq=0), make_row(seq=1)]) == [1, 1]
        assert commit(store, [make_row(seq=2)]) == [1]

    def test_each_new_claim_takes_the_next_epoch(self, store: Store) -> None:
        for number in range(1, 6):
            assert commit(store, [make_row(claim=f"claim-{number}")]) == [number]

    def test_executions_have_epochs_of_their_own(self, store: Store) -> None:
        rows = [make_row("x", claim="c1"), make_row("y", claim="c1"), make_row("x", claim="c2")]
        assert commit(store, rows) == [1, 1, 2]

    def test_zombie_is_fenced_and_writes_nothing(self, store: Store) -> None:
        commit(store, [make_row(seq=0, claim="old", node_id="n", blob=state("old"))])
        commit(store, [make_row(seq=0, claim="new", node_id="n", blob=state("new"))])
        before = contents(store)
        zombies = [
            make_row(seq=1, claim="old", node_id="n", blob=state("zombie")),
            make_row(seq=2, claim="old", node_id="n"),
            make_row(seq=3, claim="old", node_id="other"),
        ]
        for result in store.commit(zombies):
            assert (result.status, result.epoch) == (FENCED, 1)
            assert result.reason, "a fenced row needs a reason"
        assert contents(store) == before

    def test_what_the_zombie_had_stored_is_still_stored(self, store: Store) -> None:
        rows = [
            make_row(seq=0, claim="old", node_id="n", blob=state("0")),
            make_row(seq=1, claim="old", node_id="n", output="of which no trace is left"),
            make_row(seq=2, claim="old", node_id="m"),
        ]
        for row in rows:
            commit(store, [row])
        commit(store, [make_row(seq=0, claim="new", node_id="n", output="taken over")])
        before = contents(store)
        assert commit(store, rows) == [1, 1, 1]
        assert contents(store) == before
        assert [statuses(store, [row]) for row in reversed(rows)] == [[STORED]] * 3
        newer = make_row(seq=3, claim="old", node_id="n")
        assert statuses(store, [*rows, newer]) == [STORED, STORED, STORED, FENCED]

    def test_what_came_out_of_order_before_a_takeover_is_still_stored(self, store: Store) -> None:
        rows = [
            make_row(seq=5, claim="old", node_id="n", output="of which no trace is left"),
            make_row(seq=2, claim="old", node_id="m"),
        ]
        new = [make_row(seq=0, claim="new", node_id=node_id) for node_id in "nm"]
        commit(store, [*rows, *new])
        before = contents(store)
        assert statuses(store, rows) == [STORED, STORED]
        assert statuses(store, [make_row(seq=6, claim="old", node_id="n")]) == [FENCED]
        assert contents(store) == before

    def test_takeover_within_a_batch(self, store: Store) -> None:
        rows = [
            make_row(seq=0, claim="old"),
            make_row(seq=1, claim="new"),
            make_row(seq=2, claim="old"),
            make_row(seq=3, claim="new"),
        ]
        results = store.commit(rows)
        told = [(result.status, result.epoch) for result in results]
        assert told == [(STORED, 1), (STORED, 2), (FENCED, 1), (STORED, 2)]

    def test_what_was_stored_stays_after_a_takeover(self, store: Store) -> None:
        commit(store, [make_row(seq=9, claim="old", blob=state("old"))])
        commit(store, [make_row(seq=0, claim="new", node_id="n")])
        assert [node.epoch for node in store.nodes("run")] == [1, 2]
        latest = store.latest_checkpoint("run")
        assert latest is not None
        assert latest.blob == state("old")

    def test_explicit_claim(self, store: Store) -> None:
        assert store.claim("run", "one") == 1
        assert store.claim("run", "one") == 1
        assert commit(store, [make_row(claim="one")]) == [1]
        assert store.claim("run", "two") == 2
        assert statuses(store, [make_row(seq=1, claim="one")]) == [FENCED]
        with pytest.raises(FencedError):
            store.claim("run", "one")
        assert store.claim("run", "two") == 2
        assert commit(store, [make_row(seq=1, claim="two")]) == [2]

    def test_explicit_claim_alone_is_no_execution(self, store: Store) -> None:
        store.claim("run", "one")
        assert listing(store) == {}
        assert store.latest_checkpoint("run") is None

    def test_epoch_of_a_row_of_a_known_claim_is_not_looked_at(self, store: Store) -> None:
        assert commit(store, [make_row(claim="one")]) == [1]
        assert commit(store, [make_row(seq=1, claim="one", epoch=1)]) == [1]
        assert commit(store, [make_row(seq=2, claim="one", epoch=7)]) == [1]

    def test_unknown_claim_keeps_a_newer_epoch_that_it_brings(self, store: Store) -> None:
        assert commit(store, [make_row(claim="one", epoch=5)]) == [5]
        assert statuses(store, [make_row(seq=1, claim="two", epoch=5)]) == [FENCED]
        assert statuses(store, [make_row(seq=1, claim="three", epoch=4)]) == [FENCED]
        assert commit(store, [make_row(seq=1, claim="four")]) == [6]
        assert commit(store, [make_row(seq=1, claim="five", epoch=8)]) == [8]

    def test_refused_row_claims_nothing(self, store: Store) -> None:
        bad = make_row(claim="bad", output=object())
        assert statuses(store, [bad]) == [REFUSED]
        assert statuses(store, [bad, make_row(claim="good")]) == [REFUSED, STORED]
        assert commit(store, [make_row(seq=1, claim="good")]) == [1]

    # -- delete --

    def test_delete_removes_everything_of_one_execution(self, store: Store) -> None:
        row = make_row("gone", blob=state("gone"), content_hash=b"h" * 16)
        commit(store, [row, make_row("gone", 1), make_row("stays", blob=state("stays"))])
        before = contents(store)
        assert store.delete_execution("gone") == 2
        assert store.latest_checkpoint("gone") is None
        assert store.load_node("gone/0") is None
        assert list(store.nodes("gone")) == []
        assert store.blob_by_hash("gone", b"h" * 16) is None
        after = contents(store)
        assert after == {
            "list": {"stays": before["list"]["stays"]},
            **{key: told for key, told in before.items() if "stays" in key},
        }

    def test_delete_of_what_is_not_there(self, store: Store) -> None:
        assert store.delete_execution("never") == 0
        assert commit(store, [make_row("never")]) == [1]
        assert store.delete_execution("never") == 1
        assert store.delete_execution("never") == 0
        assert commit(store, [make_row("never", claim="next")]) == [3]

    def test_delete_fences_queued_rows(self, store: Store) -> None:
        rows = [make_row(seq=seq, blob=state(str(seq))) for seq in range(4)]
        commit(store, rows[:2])
        store.delete_execution("run")
        assert statuses(store, rows) == [FENCED] * 4, "rows from before a delete came back"
        with pytest.raises(FencedError):
            store.claim("run", "claim-a")
        assert listing(store) == {}

    def test_new_claim_starts_a_deleted_execution_afresh(self, store: Store) -> None:
        old = [make_row(seq=0, node_id="n"), make_row(seq=5, node_id="n", blob=state("old"))]
        commit(store, old)
        store.delete_execution("run")
        assert commit(store, [make_row(seq=0, node_id="n", claim="next")]) == [3]
        assert statuses(store, old) == [FENCED, FENCED]
        found = store.load_node("n")
        assert found is not None
        assert (found.epoch, found.seq, found.blob) == (3, 0, None)
        assert listing(store)["run"][2:5] == (1, 0, 0)

    def test_delete_fences_the_rows_of_every_earlier_claim(self, store: Store) -> None:
        old = [make_row(seq=seq, node_id="n", claim="old") for seq in range(3)]
        commit(store, old)
        commit(store, [make_row(seq=0, node_id="n", claim="new")])
        store.delete_execution("run")
        commit(store, [make_row(seq=0, node_id="n", claim="next")])
        before = contents(store)
        assert statuses(store, old) == [FENCED] * 3, "what was deleted is not stored"
        assert contents(store) == before

    def test_delete_survives_reopening(self, store: Store) -> None:
        commit(store, [make_row()])
        store.delete_execution("run")
        store.close()
        store.open()
        assert statuses(store, [make_row(), make_row(seq=1)]) == [FENCED, FENCED]
