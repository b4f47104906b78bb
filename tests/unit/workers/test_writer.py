"""What a writer makes of the records that a commit request names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from livingai import codecs
from livingai.codecs import Codec
from livingai.errors import StoreUnavailableError
from livingai.queue.journal import JournalLimits
from livingai.queue.layout import RECORD_HEADER_BYTES, offset_of, position, segment_of
from livingai.queue.record import execution_hash
from livingai.queue.segment import segment_name
from livingai.queue.tail import Found
from livingai.stores.base import RowStatus
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.store.writer import DAMAGED, HELD, UNENCODED, WriterRole
from tests.support.journals import Writer, flip_in_record, records, state_directory
from tests.support.states import LARGE, state_of

ID = "run-1"
STATES = [state_of(ID, step) for step in range(3)]

#: The rest of a request for a record that is stored as it is.
AS_IS = (None,) * 4


class Bench:
    """A journal with states, and a writer role that can store them."""

    def __init__(self, folder: Path, states: Sequence[tuple[str, bytes | None]]) -> None:
        self.store = SQLiteStore(folder / "agent.db")
        directory = state_directory(folder / "state")
        self.owner = Writer(directory, JournalLimits())
        for execution, state in states:
            self.owner.save(execution, state)
        self.journal = self.owner.journal.directory
        self.found: list[Found] = records(self.journal)
        self.role = WriterRole(self.store)

    def request(self, number: int, *rest: object) -> list[object]:
        return [self.journal, self.found[number].position, *rest]

    def commit(self, *requests: list[object]) -> list[int]:
        """The row statuses."""
        return [answer[0] for answer in self.role.do_commit(list(requests))]

    def blobs(self) -> list[bytes]:
        """What is stored of each state, oldest first."""
        return [found.blob or b"" for found in self.store.checkpoints(ID)]

    def states(self) -> list[bytes]:
        """The stored states, each rebuilt from its chain."""

        def fetch(key: bytes) -> bytes:
            blob = self.store.blob_by_hash(ID, key)
            assert blob is not None
            return codecs.decode(blob, fetch_base=fetch, max_bytes=1 << 20)

        return [codecs.decode(blob, fetch_base=fetch, max_bytes=1 << 20) for blob in self.blobs()]

    def close(self) -> None:
        self.role.close()
        self.owner.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Three small states of one execution."""
    with closing(Bench(tmp_path, [(ID, state) for state in STATES])) as bench:
        yield bench


def test_small_states_are_encoded_here(bench: Bench) -> None:
    """The first alone, the next as differences from the one before, in one batch."""
    first, second = (bench.found[n].position for n in range(2))
    statuses = bench.commit(bench.request(0, 0), bench.request(1, first), bench.request(2, second))
    assert statuses == [RowStatus.STORED] * 3
    assert [blob[0] for blob in bench.blobs()] == [Codec.ZSTD, Codec.DELTA, Codec.DELTA]
    assert [codecs.base_of(blob) for blob in bench.blobs()] == [
        None, codecs.content_hash(STATES[0]), codecs.content_hash(STATES[1])
    ]  # fmt: skip
    assert bench.states() == STATES


def test_stored_as_it_is(bench: Bench) -> None:
    assert (
        bench.commit(*(bench.request(number, *AS_IS) for number in range(2)))
        == [RowStatus.STORED] * 2
    )
    assert bench.blobs() == [b"\0" + state for state in STATES[:2]]


def test_a_dispatcher_of_another_version(bench: Bench) -> None:
    """What it wants is not known, and is not taken for damage of the record."""
    for rest in ((), (0, 0), (None,) * 5):
        with pytest.raises(StoreUnavailableError, match="restart it"):
            bench.commit(bench.request(0, 0), bench.request(1, *rest))
    assert bench.states() == []


def test_a_damaged_base_costs_only_the_difference(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What builds on it is stored whole."""
    base = bench.found[0]
    flip_in_record(bench.journal, base, RECORD_HEADER_BYTES + base.header.node_len + 100)
    statuses = bench.commit(bench.request(0, 0), bench.request(1, base.position))
    assert statuses == [DAMAGED, RowStatus.STORED]
    assert caplog.text == "", "neither is a fault of the encoding"
    assert [blob[0] for blob in bench.blobs()] == [Codec.ZSTD]
    assert bench.states() == [STATES[1]]


def test_a_base_whose_segment_is_gone(bench: Bench) -> None:
    """It was stored long ago, and its segment recycled."""
    gone = position(1000, offset_of(bench.found[0].position))
    assert not (Path(bench.journal) / segment_name(segment_of(gone))).exists()
    assert bench.commit(bench.request(1, gone)) == [RowStatus.STORED]
    assert bench.states() == [STATES[1]]


def test_what_cannot_be_encoded_is_stored_as_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*arguments: object, **keywords: object) -> None:
        raise MemoryError("no window")

    monkeypatch.setattr(codecs, "encode", failing)
    first = bench.found[0].position
    statuses = bench.commit(bench.request(0, 0), bench.request(1, first))
    assert statuses == [RowStatus.STORED] * 2
    assert bench.blobs() == [b"\0" + state for state in STATES[:2]]
    assert "MemoryError('no window')" in caplog.text


def test_the_codec_of_the_configuration(bench: Bench) -> None:
    role = WriterRole(bench.store, None, "zlib")
    assert role.do_commit([bench.request(0, 0)])[0][0] == RowStatus.STORED
    assert bench.blobs()[0][0] == Codec.ZLIB
    role.close()


def test_a_large_state_that_copies_much_of_its_base(tmp_path: Path) -> None:
    """Encoded here; the rest of the batch does not wait for it."""
    states = [state_of(ID, 0, LARGE), state_of(ID, 0, LARGE) + b" and more"]
    with closing(Bench(tmp_path, [(ID, state) for state in states])) as bench:
        first = bench.found[0].position
        assert (
            bench.commit(bench.request(0, *AS_IS), bench.request(1, first))
            == [RowStatus.STORED] * 2
        )
        assert [blob[0] for blob in bench.blobs()] == [Codec.RAW, Codec.DELTA]
        assert bench.states() == states


def test_what_takes_long_is_left_to_a_compressor(tmp_path: Path) -> None:
    """So is what comes behind it, for order's sake, and nothing else."""
    changed = [state_of(ID, step, LARGE) for step in range(2)]
    saves = [
        (ID, changed[0]),
        (ID, changed[1]),
        (ID, None),
        ("run-2", b"x" * 500),
        (ID, b"y" * 500),
    ]
    with closing(Bench(tmp_path, saves)) as bench:
        assert bench.commit(bench.request(0, *AS_IS)) == [RowStatus.STORED]
        first, second = (bench.found[n].position for n in range(2))
        statuses = bench.commit(
            bench.request(1, first),
            bench.request(2, *AS_IS),
            bench.request(3, *AS_IS),
            bench.request(4, second),
        )
        assert statuses == [UNENCODED, HELD, RowStatus.STORED, HELD]
        assert bench.states() == changed[:1]
        assert [found.raw_bytes for found in bench.store.checkpoints("run-2")] == [500]


def test_a_large_state_without_its_base(tmp_path: Path) -> None:
    with closing(Bench(tmp_path, [(ID, state_of(ID, 0, LARGE))])) as bench:
        gone = position(1000, offset_of(bench.found[0].position))
        assert bench.commit(bench.request(0, gone)) == [UNENCODED]
        assert bench.states() == []


def test_a_refused_claim_keeps_its_place(tmp_path: Path) -> None:
    """Queued again after another process has taken the execution over, it is the older one."""
    with closing(Bench(tmp_path, [(ID, b"x" * 9000), (ID, b"y")])) as bench:
        bench.store.open()
        connection = bench.store._file._connection
        assert connection is not None
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 5000)
        assert bench.commit(bench.request(0, *AS_IS)) == [RowStatus.REFUSED]
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 1 << 30)
        epoch = bench.role.do_claim(ID, "another")
        statuses = bench.commit(bench.request(0, *AS_IS), bench.request(1, *AS_IS))
        assert statuses == [RowStatus.FENCED] * 2
        assert bench.role.do_claim(ID, "another") == epoch
        assert bench.states() == []


def test_a_place_that_cannot_be_kept_now_is_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is sent again: what is refused must not be set aside before its claim has one."""
    with closing(Bench(tmp_path, [(ID, b"x" * 9000)])) as bench:
        bench.store.open()
        connection = bench.store._file._connection
        assert connection is not None
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 5000)

        def busy(self: SQLiteStore, execution_id: str, claim: str) -> int:
            raise StoreUnavailableError("another process keeps it locked")

        with monkeypatch.context() as patched:
            patched.setattr(SQLiteStore, "claim", busy)
            with pytest.raises(StoreUnavailableError, match="keeps it locked"):
                bench.commit(bench.request(0, *AS_IS))
        assert bench.store.owners(ID) == []
        assert bench.commit(bench.request(0, *AS_IS)) == [RowStatus.REFUSED]
        assert len(bench.store.owners(ID)) == 1


@pytest.mark.parametrize("field", ["epoch", "seq"])
def test_a_number_that_no_store_can_hold_costs_only_its_record(tmp_path: Path, field: str) -> None:
    """A journal keeps 64 bits of it, and databases 63."""
    with closing(Bench(tmp_path, [(ID, b"x")])) as bench:
        numbers: dict[str, Any] = {"epoch": 0, "seq": 2, field: 1 << 63}
        bench.owner.journal.append(
            key=execution_hash(ID), slot=-1, node_key=1, claim=bench.found[0].header.claim,
            flags=0, state_kind=0, node=bench.owner.node, ext=b"", state=b"", budget_us=1,
            **numbers,
        )  # fmt: skip
        bench.found = records(bench.journal)
        requests = [bench.request(number, *AS_IS) for number in range(2)]
        assert bench.commit(*requests) == [RowStatus.STORED, DAMAGED]
        assert bench.states() == [b"x"]
