"""States that are decoded through chains of deltas, which rows in a store may make up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai import codecs
from livingai.errors import CorruptBlobError, MissingBaseError
from livingai.stores.base import SizedBlob
from livingai.stores.sqlite import SQLiteStore
from livingai.stores.states import MAX_DEPTH, StateDecoder
from livingai.testing.rows import commit, make_row

RUN = "run"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "a.db") as found:
        yield found


def state_of(step: int) -> bytes:
    return b"what all of them share " * 30 + b"%d" % step


def chain(store: SQLiteStore, length: int) -> None:
    """A whole state, and so many deltas, each on the one before."""
    rows = []
    for step in range(length + 1):
        raw = state_of(step)
        base = state_of(step - 1) if step else None
        encoded = codecs.encode(raw, codec="delta" if step else "zstd", base=base)
        rows.append(
            make_row(
                RUN, step, blob=encoded.blob, base_hash=encoded.base_hash,
                content_hash=codecs.content_hash(raw),
            )
        )  # fmt: skip
        rows[-1].raw_bytes = len(raw)
    commit(store, rows)


def decoded(store: SQLiteStore, step: int, *, remembered: int = 0) -> bytes:
    decoder = StateDecoder(store, RUN, max_bytes=1 << 20, remembered=remembered)
    raw = state_of(step)
    found = store.sized_blob(RUN, codecs.content_hash(raw))
    assert found is not None
    return decoder.decode(found, codecs.content_hash(raw))


def test_the_longest_chain(store: SQLiteStore) -> None:
    """Any writer makes shorter ones."""
    chain(store, MAX_DEPTH + 1)
    assert decoded(store, MAX_DEPTH) == state_of(MAX_DEPTH)
    with pytest.raises(CorruptBlobError, match=f"more than {MAX_DEPTH} deltas"):
        decoded(store, MAX_DEPTH + 1)


def test_what_is_remembered_makes_no_chain_longer(store: SQLiteStore) -> None:
    chain(store, MAX_DEPTH + 5)
    decoder = StateDecoder(store, RUN, max_bytes=1 << 20, remembered=2)
    for found in store.checkpoints(RUN):
        decoder.verify(SizedBlob(found.blob or b"", found.raw_bytes), found.content_hash)


def test_a_chain_that_runs_in_a_circle(store: SQLiteStore) -> None:
    chain(store, 1)
    whole, delta = store.checkpoints(RUN)
    assert delta.blob is not None
    assert whole.content_hash is not None
    store.drop_checkpoints(RUN, [(whole.epoch, whole.seq)])
    with pytest.raises(MissingBaseError):
        decoded(store, 1)
    row = make_row(RUN, 7, blob=delta.blob, base_hash=whole.content_hash,
                   content_hash=whole.content_hash)  # fmt: skip
    row.raw_bytes, row.base_hash = delta.raw_bytes, None
    commit(store, [row])
    with pytest.raises(CorruptBlobError, match="rows are damaged"):
        decoded(store, 1)
