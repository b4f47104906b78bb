"""One class that checks a whole store: subclass it, say how to build yours, have all tests.

::

    from livingai.testing import StoreConformance

    class TestMyStore(StoreConformance):
        def make_store(self, tmp_path):
            return MyStore(namespace=str(tmp_path))

The tests are in parts by rule of :mod:`livingai.stores.base`: :mod:`.writing`, :mod:`.owning`,
:mod:`.reading`, :mod:`.ranging`, :mod:`.keeping`,
:mod:`.dropping`, :mod:`.standing` and :mod:`.racing`; life and damage are here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import msgpack
import pytest

from livingai.errors import StoreUnavailableError
from livingai.stores.base import Capabilities, Row, Store, StoreSpec
from livingai.testing.dropping import DroppingTests
from livingai.testing.keeping import KeepingTests
from livingai.testing.owning import OwningTests
from livingai.testing.racing import RacingTests
from livingai.testing.ranging import RangingTests
from livingai.testing.reading import ReadingTests
from livingai.testing.rows import (
    FENCED,
    STORED,
    commit,
    contents,
    make_row,
    reads_or_refuses,
    state,
    statuses,
)
from livingai.testing.standing import StandingTests
from livingai.testing.writing import WritingTests

#: Of what a raw hook handles the bytes: a node's section, or a checkpoint's blob.
Part = Literal["node", "blob"]


class StoreConformance(
    WritingTests,
    OwningTests,
    ReadingTests,
    RangingTests,
    KeepingTests,
    DroppingTests,
    StandingTests,
    RacingTests,
):
    """Every rule of the store contract. Override all four hooks: a rule that nothing checks is not
    kept."""

    def make_store(self, tmp_path: Path) -> Store:
        """A store that is not open yet: empty for a new ``tmp_path``, another connection to the
        same store for one that was used before."""
        raise NotImplementedError

    def raw_get(self, tmp_path: Path, part: Part, row: Row) -> bytes:
        """The bytes that the database holds for ``row``, read without the store."""
        raise NotImplementedError

    def raw_set(self, tmp_path: Path, part: Part, row: Row, data: bytes) -> None:
        """Change those bytes without the store."""
        raise NotImplementedError

    def unavailable(self, tmp_path: Path) -> AbstractContextManager[object]:
        """While it is entered, no connection can commit (a lock, a stopped server)."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """An open, empty store."""
        with self.make_store(tmp_path) as store:
            yield store

    # -- identity and life --

    def test_identity_needs_no_connection(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        spec = store.spec()
        assert store.url
        assert store.default_directory()
        assert isinstance(store.capabilities, Capabilities)
        sent = msgpack.unpackb(msgpack.packb([spec.path, spec.kwargs]))
        copy = StoreSpec(*sent).build()
        assert type(copy) is type(store)
        assert (copy.url, copy.spec()) == (store.url, spec)

    def test_validate_accepts_a_store_before_and_after_its_first_use(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        store.validate()
        with store:
            store.validate()
            commit(store, [make_row()])
        store.validate()

    def test_open_and_close_are_idempotent(self, tmp_path: Path) -> None:
        store = self.make_store(tmp_path)
        store.close()
        store.open()
        store.open()
        commit(store, [make_row()])
        store.close()
        store.close()
        store.open()
        assert len(store.list_executions()) == 1
        store.close()

    def test_reopening_loses_nothing(self, store: Store) -> None:
        rows = [make_row(f"run-{seq % 3}", seq, blob=state(str(seq))) for seq in range(30)]
        commit(store, rows)
        before = contents(store)
        store.close()
        store.open()
        assert contents(store) == before

    def test_another_process_would_see_the_same(self, store: Store) -> None:
        commit(store, [make_row(seq=seq, blob=state(str(seq))) for seq in range(5)])
        with store.spec().build() as copy:
            assert contents(copy) == contents(store)

    # -- two connections --

    def test_two_connections_share_everything(self, store: Store, tmp_path: Path) -> None:
        with self.make_store(tmp_path) as other:
            assert commit(store, [make_row(seq=0, blob=state("0"))]) == [1]
            assert commit(other, [make_row(seq=1, blob=state("1"))]) == [1]
            assert contents(other) == contents(store)
            assert commit(other, [make_row(seq=0, claim="next")]) == [2]
            assert statuses(store, [make_row(seq=2), make_row(seq=1, blob=state("1"))]) == [
                FENCED,
                STORED,
            ]
            assert store.claim("run", "third") == 3
            assert statuses(other, [make_row(seq=1, claim="next")]) == [FENCED]
            other.delete_execution("run")
            assert statuses(store, [make_row(seq=0, claim="third")]) == [FENCED]
            assert store.list_executions() == other.list_executions() == []

    # -- rule 6 --

    def test_trouble_is_raised_and_the_batch_can_be_sent_again(
        self, store: Store, tmp_path: Path
    ) -> None:
        rows = [make_row(seq=seq, blob=state(str(seq))) for seq in range(3)]
        with self.unavailable(tmp_path):
            with pytest.raises(StoreUnavailableError):
                store.commit(rows)
            with pytest.raises(StoreUnavailableError):
                store.claim("run", "claim-a")
        commit(store, rows)
        assert sum(1 for _ in store.nodes("run")) == 3

    # -- rule 9 --

    @pytest.mark.parametrize("part", ["node", "blob"])
    def test_damage_is_never_returned(self, store: Store, tmp_path: Path, part: Part) -> None:
        row = make_row(blob=state("a state of some length"), output={"text": "some output"})
        commit(store, [row])
        whole = contents(store)
        original = self.raw_get(tmp_path, part, row)
        damages = [original[:cut] for cut in range(len(original))] + [original + b"\0"]
        for bit in range(len(original) * 8):
            flipped = bytearray(original)
            flipped[bit // 8] ^= 1 << bit % 8
            damages.append(bytes(flipped))
        for damage in damages:
            self.raw_set(tmp_path, part, row, damage)
            assert reads_or_refuses(lambda: contents(store), whole), "damage went unnoticed"
            reads_or_refuses(lambda: store.blob_by_hash("run", row.content_hash or b""), row.blob)
        self.raw_set(tmp_path, part, row, original)
        assert contents(store) == whole

    @pytest.mark.parametrize("part", ["node", "blob"])
    def test_nothing_that_is_stored_is_executed(
        self, store: Store, tmp_path: Path, part: Part
    ) -> None:
        row = make_row(blob=state("s"))
        commit(store, [row])
        # A pickle that would create a file if anyone loaded it.
        marker = tmp_path / "executed"
        pickle = b"cos\nsystem\n(S'touch %b'\ntR." % str(marker).encode()
        self.raw_set(tmp_path, part, row, pickle)
        assert reads_or_refuses(lambda: contents(store), None)
        assert not marker.exists()
