"""The words of an index: what a claim that begins, resumes, is taken over or is evicted leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from livingai.queue.index import NAME, Index, Slot, create_index
from livingai.queue.layout import INDEX_WAYS, Flag, Kind, StateKind
from livingai.queue.lock import boot_id
from livingai.queue.record import RecordHeader, pack_record, parse_header
from tests.support.journals import flip

JOURNAL = 0x1122
SETS = 2
#: All of one set.
KEYS = [2 * number for number in range(1, INDEX_WAYS + 3)]
KEY = KEYS[0]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    create_index(str(tmp_path), JOURNAL, SETS, 4, boot_id())
    found = Index(str(tmp_path))
    yield found
    found.close()


def header(key: int = KEY, *, claim: int, seq: int, state: bool = True) -> RecordHeader:
    packed = pack_record(
        kind=Kind.WRITE, flags=Flag.STATE if state else 0, state_kind=StateKind.BYTES,
        journal_id=JOURNAL, segment=1, lsn=1, claim=claim, epoch=0, seq=seq, mono_ns=1, wall_ns=1,
        key=key, node=b"", ext=b"", state=b"", budget_us=1, length=128,
    )  # fmt: skip
    found = parse_header(packed, 0)
    assert found is not None
    return found


def written(index: Index, key: int = KEY, claim: int = 5) -> int:
    """A slot whose claim has two records: one with a state at 100, one without at 200."""
    at = index.locate(key)
    index.begin(at, claim)
    index.put(at, 100, 1, True)
    index.put(at, 200, 2, False)
    return at


def test_a_record_without_a_state_leaves_the_state_where_it_was(index: Index) -> None:
    written(index)
    assert index.get(KEY) == Slot(state=100, newest=200, claim=5, seq=2, taken=0)


def test_who_is_taken_over_counts_again_only_with_a_new_claim(index: Index) -> None:
    at = written(index)
    index.take(KEY)
    slot = index.get(KEY)
    assert slot is not None
    assert slot.superseded
    assert (slot.state, slot.claim) == (100, 5)
    index.put(at, 300, 3, True)
    slot = index.get(KEY)
    assert slot is not None
    assert slot.superseded, "it writes on and does not know yet"
    index.begin(at, 6)
    assert index.get(KEY) == Slot(state=0, newest=0, claim=6, seq=0, taken=0)


def test_only_the_execution_that_is_named_is_taken(index: Index) -> None:
    written(index)
    written(index, KEYS[1])
    index.take(KEYS[1])
    index.take(KEYS[2])
    slot = index.get(KEY)
    assert slot is not None
    assert not slot.superseded
    assert index.get(KEYS[2]) is None


def test_a_claim_that_is_resumed_does_not_count(index: Index) -> None:
    at = written(index)
    index.resume(at, 5, 2)
    assert index.get(KEY) == Slot(state=0, newest=0, claim=5, seq=2, taken=index.taken(at))
    assert index.taken(at)


def test_a_claim_that_was_fenced_does_not_count(index: Index) -> None:
    at = written(index)
    index.forget(at)
    slot = index.get(KEY)
    assert slot is not None
    assert slot.superseded
    assert not slot.state
    assert not slot.newest


def test_a_slot_that_is_reused_knows_nothing_of_the_one_before(index: Index) -> None:
    for key in KEYS[: INDEX_WAYS + 1]:
        written(index, key)
    gone = [key for key in KEYS[: INDEX_WAYS + 1] if index.get(key) is None]
    assert len(gone) == 1, "a full set evicts one"
    assert not index.owns(index.locate(KEYS[-1]), gone[0])
    assert index.get(KEYS[-1]) == Slot(0, 0, 0, 0, 0)


def test_what_is_stored_is_evicted_first(index: Index) -> None:
    for number, key in enumerate(KEYS[:INDEX_WAYS]):
        at = index.locate(key)
        index.begin(at, 1)
        index.put(at, 50 if number == 2 else 500, 1, True)
    index.locate(KEYS[-1], reusable=100)
    assert [key for key in KEYS[:INDEX_WAYS] if index.get(key) is None] == [KEYS[2]]
    assert index.may_know(KEYS[2]), "it may have lost that"
    assert not index.may_know(KEY + 1), "the other set is empty"


@pytest.mark.parametrize(
    ("claim", "seq", "expected"),
    [(5, 3, 900), (5, 2, 200), (5, 1, 200), (4, 3, 200), (6, 1, 200)],
)
def test_a_record_that_was_not_published(index: Index, claim: int, seq: int, expected: int) -> None:
    """It counts if it is the newest of the slot's own claim."""
    written(index)
    index.recover(header(claim=claim, seq=seq), 900)
    slot = index.get(KEY)
    assert slot is not None
    assert slot.newest == expected
    assert slot.state == (900 if expected == 900 else 100)
    assert slot.claim == 5


def test_a_record_that_was_not_published_and_has_no_slot(index: Index) -> None:
    index.recover(header(claim=5, seq=1), 900)
    assert index.get(KEY) is None


def test_nodes(index: Index) -> None:
    index.put_node(7, 100)
    assert index.get_node(7) == 100
    assert index.get_node(7 + index.node_slots) == 0, "another node, with the same place"
    index.put_node(7 + index.node_slots, 200)
    assert index.get_node(7) == 0
    index.forget_nodes()
    assert not list(index.nodes())
    assert index.get_node(7 + index.node_slots) == 0


@pytest.mark.parametrize("bit", range(0, 64 * 8, 37))
def test_a_damaged_header(tmp_path: Path, bit: int) -> None:
    create_index(str(tmp_path), JOURNAL, SETS, 4, boot_id())
    Index(str(tmp_path)).close()
    flip(tmp_path / NAME, bit)
    with pytest.raises(ValueError, match="not an intact index"):
        Index(str(tmp_path))


@pytest.mark.parametrize("by", [-4096, -8, 8])
def test_another_size(tmp_path: Path, by: int) -> None:
    create_index(str(tmp_path), JOURNAL, SETS, 4, boot_id())
    path = tmp_path / NAME
    os.truncate(path, max(0, path.stat().st_size + by))
    with pytest.raises(ValueError, match="index"):
        Index(str(tmp_path))
