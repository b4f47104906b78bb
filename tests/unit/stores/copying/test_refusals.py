"""Copies that are refused: the target has another run, or a later state of the run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livingai.errors import CopyConflictError, CorruptRecordError, StoreError
from livingai.node import NodeField
from livingai.stores import copying
from livingai.stores.base import Row, Store
from livingai.stores.copying import copy_execution, copy_store
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, state
from tests.support.copies import chat, contents, encoded, history

Deed = Callable[[Store], None]


def _other_claim(store: Store) -> None:
    commit(store, history(claim="theirs"))


def _other_state(store: Store) -> None:
    rows = history(until=2)
    rows[1] = encoded(2, chat(2)[:-1] + b"!", claim="mine")
    commit(store, rows)


def _other_first_state(store: Store) -> None:
    commit(store, [make_row(seq=1, claim="mine", blob=state("something else"))])


def _other_node(store: Store) -> None:
    rows = history()
    rows[3].wire[NodeField.OUTPUT] = "another answer"
    commit(store, rows)


def _other_place(store: Store) -> None:
    commit(store, [*history(until=2), make_row(seq=3, node_id="not the tool", claim="mine")])


def _more(store: Store) -> None:
    commit(store, [*history(), make_row(seq=3, claim="mine-2")])


def _newer_version(store: Store) -> None:
    rows = history()
    commit(store, [*rows, make_row(seq=9, node_id="last", claim="mine-2", output="more")])


def _other_owner_later(store: Store) -> None:
    commit(store, [*history(), make_row(seq=1, node_id="x", claim="theirs")])


def _taken_over_early(store: Store) -> None:
    commit(store, history(until=3))
    store.claim("run", "theirs")


def _deleted(store: Store) -> None:
    commit(store, history())
    store.delete_execution("run")


def _state_more(store: Store) -> None:
    rows = history(until=3)
    commit(store, [*rows, make_row(seq=4, node_id="tool", claim="mine", output="answer",
                                   input="ask", blob=state("a state"))])  # fmt: skip


def _without_the_earlier_owner(store: Store) -> None:
    commit(store, [replace(row, epoch=2) for row in history() if row.claim == "mine-2"])


REFUSED: list[tuple[Deed, str]] = [
    (_other_claim, "epoch 1 belongs to theirs there and to mine in the source"),
    (_other_state, "the state of write 1.2"),
    (_other_first_state, "the state of write 1.1"),
    (_other_node, "node tool (1.4) has another content"),
    (_other_place, "node not the tool is only there"),
    (_more, "node run/3 is only there"),
    (_newer_version, "node last is newer there"),
    (_other_owner_later, "epoch 3 belongs to theirs, which the source lacks"),
    (_taken_over_early, "epoch 2 belongs to theirs there and to mine-2 in the source"),
    (_deleted, "it was deleted there (epoch 3)"),
    (_state_more, "write 1.4 (node tool) is only there"),
    (_without_the_earlier_owner, "belongs to an earlier owner than epoch 2, which has begun there"),
]


@pytest.mark.parametrize(("deed", "says"), REFUSED)
def test_another_run_is_refused_before_anything_is_written(
    source: Store, target: Store, deed: Deed, says: str
) -> None:
    commit(source, [*history(), make_row("a", 1, blob=state("a")), make_row("z", 1)])
    deed(target)
    before, owners = contents(target), target.owners("run")
    copies: list[Callable[[], Any]] = [
        lambda: copy_store(source, target),
        lambda: copy_execution(source, target, "run"),
    ]
    for copy in copies:
        with pytest.raises(CopyConflictError) as refused:
            copy()
        assert says in str(refused.value)
        assert "run: " in str(refused.value)
        assert contents(target) == before
        assert target.owners("run") == owners
    assert copy_store(source, target, prefix="a").executions == 1


def test_many_conflicts_are_counted(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "a.db") as source, SQLiteStore(tmp_path / "b.db") as target:
        for store in (source, target):
            commit(store, [make_row(f"run-{n}", claim=str(store)) for n in range(7)])
        with pytest.raises(CopyConflictError, match=r"run-4: .* and 2 more"):
            copy_store(source, target)


def test_a_target_that_loses_rows_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last check reads the target; it does not add up what was sent."""
    real = SQLiteStore.commit

    def losing(version: tuple[int, int]) -> Any:
        def lose(store: SQLiteStore, rows: Any) -> Any:
            results = real(store, rows)
            store.drop_checkpoints("run", [version])
            return results

        return lose

    def forge(store: SQLiteStore, rows: Any) -> Any:
        for row in rows:
            if row.node_id == "tool":
                row.wire = [*row.wire[:10], "forged", *row.wire[11:]]
        return real(store, rows)

    for number, wrong in enumerate((losing((2, 1)), losing((2, 2)), forge)):
        with (
            SQLiteStore(tmp_path / f"a{number}.db") as source,
            SQLiteStore(tmp_path / f"b{number}.db") as target,
        ):
            commit(source, history())
            with monkeypatch.context() as patch:
                patch.setattr(SQLiteStore, "commit", wrong)
                with pytest.raises(CorruptRecordError, match="is not what was copied"):
                    copy_store(source, target)


class _CutError(StoreError):
    """The end of a copy."""


def test_a_copy_cut_short_at_any_batch_goes_on(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(source, history())
    monkeypatch.setattr(copying, "_BATCH_ROWS", 1)
    real = copying._commit
    for batches in range(1, 8):
        left = batches

        def cut(store: Store, rows: list[Row]) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise _CutError("the network is gone")
            real(store, rows)

        monkeypatch.setattr(copying, "_commit", cut)
        with suppress(_CutError):
            copy_store(source, target)
    monkeypatch.setattr(copying, "_commit", real)
    copy_store(source, target)
    assert contents(target) == contents(source)
