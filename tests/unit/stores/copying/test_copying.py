"""Copying between stores: what arrives, and copies that are continued."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from livingai import codecs
from livingai.errors import CopyConflictError
from livingai.node import NodeField
from livingai.stores.base import Row, Store
from livingai.stores.copying import copy_store
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, state
from tests.support.copies import chat, contents, history, make_store

# --- what may be copied --------------------------------------------------------------------------


@pytest.mark.parametrize("there", range(7))
def test_a_copy_goes_on_from_an_earlier_state(source: Store, target: Store, there: int) -> None:
    """Nothing, a part (as a copy that was cut short leaves it), and all; then once more."""
    commit(source, [*history(), *(make_row("other", seq, blob=state("o")) for seq in range(3))])
    commit(target, history(until=there))
    copied = copy_store(source, target)
    assert (copied.executions, copied.nodes, copied.checkpoints) == (2, 8, 7)
    assert contents(target) == contents(source)
    assert copy_store(source, target) == copied
    assert contents(target) == contents(source)


def test_an_older_copy_is_brought_up_to_date(source: Store, target: Store) -> None:
    for until in range(1, 7):
        commit(source, history(until=until)[until - 1 :])
        copy_store(source, target)
        assert contents(target) == contents(source)


def test_what_retention_drops_is_no_difference(source: Store, target: Store) -> None:
    """On either side: the target keeps what it has, and is not filled again behind its back."""
    commit(source, history())
    copy_store(source, target)
    source.drop_checkpoints("run", [(1, 2)])
    target.drop_checkpoints("run", [(1, 1), (1, 2)])
    copied = copy_store(source, target)
    assert (copied.checkpoints, copied.left_out) == (2, 1)
    assert [(c.epoch, c.seq) for c in target.checkpoints("run")] == [(2, 1), (2, 2)]
    commit(source, [make_row(seq=3, claim="mine-2", blob=state("new"))])
    assert copy_store(source, target).left_out == 1
    assert target.latest_checkpoint("run") == source.latest_checkpoint("run")


def test_a_node_that_was_removed_is_no_difference(source: Store, target: Store) -> None:
    """In the source: the target keeps what it has. In the target: one of the newest owner comes
    again. And what was removed before the first copy never arrives."""
    rows = [make_row(seq=seq, claim="mine", blob=state(f"{seq}")) for seq in range(5)]
    commit(source, rows)
    assert source.drop_nodes("run", ["run/0"]).nodes == 1
    copied = copy_store(source, target)
    assert copied.nodes == 4
    assert contents(target) == contents(source)
    before = contents(target)
    assert source.drop_nodes("run", ["run/1", "run/2"]).nodes == 2
    assert copy_store(source, target).nodes == 2
    assert contents(target) == before
    assert target.drop_nodes("run", ["run/2", "run/3"]).nodes == 2
    copy_store(source, target)
    names = [node.wire[NodeField.ID] for node in target.nodes("run")]
    assert names == ["run/1", "run/3", "run/4"]
    commit(source, [make_row(seq=5, claim="mine")])
    assert copy_store(source, target).nodes == 3
    assert sum(1 for _ in target.nodes("run")) == 4


def test_a_state_of_the_newest_owner_is_taken_again(source: Store, target: Store) -> None:
    """Whoever dropped it: the target can have it still, so without it the copy is not whole."""
    commit(source, history())
    copied = copy_store(source, target)
    target.drop_checkpoints("run", [(2, 2)])
    assert copy_store(source, target) == copied
    assert copied.left_out == 0
    assert contents(target) == contents(source)


def test_a_state_encoded_otherwise_is_the_same(tmp_path: Path) -> None:
    raw = chat(3)
    ways = {"zstd": 1, "zlib": 6, "raw": 1}
    rows = []
    for codec, level in ways.items():
        row = make_row(seq=1, claim="c", blob=codecs.encode(raw, codec=codec, level=level).blob)
        row.raw_bytes, row.content_hash = len(raw), codecs.content_hash(raw)
        rows.append(row)
    for number, row in enumerate(rows):
        with (
            SQLiteStore(tmp_path / f"a{number}.db") as source,
            SQLiteStore(tmp_path / f"b{number}.db") as target,
        ):
            commit(source, [row])
            commit(target, [rows[number - 1]])
            assert copy_store(source, target).checkpoints == 1


# --- any two histories ---------------------------------------------------------------------------

_writes = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # node
        st.sampled_from(["", "x", "y"]),  # its output
        st.sampled_from([None, b"\0one", b"\0two"]),  # blob
        st.booleans(),  # another process takes over before it
    ),
    max_size=6,
)


def _rows_of(writes: list[Any], fork: int, claim: str) -> list[Row]:
    rows = []
    owner = 0
    for seq, (node, output, blob, taken) in enumerate(writes):
        owner += taken
        name = f"common-{owner}" if seq < fork else f"{claim}-{owner}"
        rows.append(make_row(seq=seq, node_id=node, claim=name, output=output, blob=blob))
    return rows


def _only_without_state(mine: Row, yours: Row) -> bool:
    same = (mine.claim, mine.seq, mine.wire) == (yours.claim, yours.seq, yours.wire)
    return same and mine.blob is not None and yours.blob is None


def _begins(rows: list[Row], claim: str) -> int | None:
    """The number of the first row of a claim; None: it has none."""
    return next((row.seq for row in rows if row.claim == claim), None)


@settings(max_examples=150)
@given(ours=_writes, theirs=_writes, fork=st.integers(0, 6), same_claims=st.booleans())
def test_a_copy_is_whole_or_not_at_all(
    ours: list[Any], theirs: list[Any], fork: int, same_claims: bool
) -> None:
    """Two histories that part at ``fork``. Afterwards the target has either exactly what the source
    has, or exactly what it had; and a prefix is never refused."""
    fork = min(fork, len(ours))
    theirs = ours[:fork] + theirs
    mine = _rows_of(ours, fork, "mine")
    yours = _rows_of(theirs, fork, "mine" if same_claims else "yours")
    # A write that the target has without its state counts as one whose state it has dropped.
    assume(not any(_only_without_state(*pair) for pair in zip(mine, yours, strict=False)))
    # A claim is one process's, and it begins with one write, wherever that was stored.
    assume(all(_begins(mine, row.claim) in (None, _begins(yours, row.claim)) for row in yours))
    with TemporaryDirectory(dir="/dev/shm") as folder, ExitStack() as stack:
        source, target = (
            stack.enter_context(make_store("sqlite", Path(folder), name)) for name in "st"
        )
        commit(source, mine)
        commit(target, yours)
        before = contents(target)
        try:
            copy_store(source, target)
        except CopyConflictError:
            assert yours != mine[: len(yours)], "an earlier state of the same run"
            assert contents(target) == before
        else:
            if mine:
                after, expected = contents(target), contents(source)
                # Owners of whose writes nothing is left are not copied.
                assert set(after.pop("owners run")) <= set(expected.pop("owners run"))
                assert after == expected or _dropped(after, expected)


def _dropped(after: dict[str, Any], source: dict[str, Any]) -> bool:
    """Whether all that differs are states between, as if the source had dropped them."""
    return after["nodes run"] == source["nodes run"] and set(source["checkpoints run"]) <= set(
        after["checkpoints run"]
    )
