"""What a record's sums and numbers are compared with, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import xxhash

from livingai.errors import CorruptRecordError
from livingai.outcome import STATUS_BY_CODE
from livingai.queue.layout import (
    JOURNAL_VERSION,
    OUTCOME_OFFSET,
    OUTCOME_STATUS_BITS,
    RECORD_FIELDS,
    RECORD_HEADER_BYTES,
    RECORD_SUM,
    RECORD_SUM_OFFSET,
    Flag,
    Kind,
    StateKind,
    aligned,
)
from livingai.queue.record import (
    RecordHeader,
    body_intact,
    pack_outcome,
    pack_record,
    parse_header,
    read_outcome,
    read_record,
    read_sections,
    sections_sum,
    unpack_outcome,
)

NODE, EXT, STATE = b"node" * 20, b"ext" * 5, b"state" * 30
LENGTH = aligned(RECORD_HEADER_BYTES + len(NODE) + len(EXT) + len(STATE))


def packed(lsn: int = 7, **changed: Any) -> bytearray:
    """A whole record; its header says what is ``changed``, and has a sum that fits."""
    header = pack_record(
        kind=Kind.WRITE, flags=Flag.STATE, state_kind=StateKind.BYTES, journal_id=1, segment=2,
        lsn=lsn, claim=3, epoch=0, seq=4, mono_ns=5, wall_ns=6, key=8, node=NODE, ext=EXT,
        state=STATE, budget_us=9, length=LENGTH,
    )  # fmt: skip
    record = bytearray((header + NODE + EXT + STATE).ljust(LENGTH, b"\0"))
    if changed:
        fields = RecordHeader._make(RECORD_FIELDS.unpack_from(header))._replace(**changed)
        raw = RECORD_FIELDS.pack(*fields)
        record[: len(raw)] = raw
        RECORD_SUM.pack_into(record, RECORD_SUM_OFFSET, xxhash.xxh3_64_intdigest(raw))
    return record


def test_as_it_was_written() -> None:
    record = packed()
    header = parse_header(record, 0)
    assert header is not None
    assert (header.lsn, header.claim, header.seq, header.length) == (7, 3, 4, LENGTH)
    assert body_intact(record, 0, header)
    assert read_record(record, 0) == (header, NODE, EXT, STATE)


def test_every_bit_of_the_header_is_under_its_sum() -> None:
    for bit in range(8 * OUTCOME_OFFSET):
        record = packed()
        record[bit // 8] ^= 1 << bit % 8
        assert parse_header(record, 0) is None, f"bit {bit}"


@pytest.mark.parametrize("part", [0, len(NODE), len(NODE) + len(EXT), len(NODE) + len(EXT) + 149])
def test_every_section_is_under_the_bodys_sum(part: int) -> None:
    record = packed()
    header = parse_header(record, 0)
    assert header is not None
    record[RECORD_HEADER_BYTES + part] ^= 1
    assert not body_intact(record, 0, header)
    with pytest.raises(CorruptRecordError, match="body checksum"):
        read_record(record, 0)


def test_bytes_of_an_older_record_do_not_pass_for_a_newer_one() -> None:
    """The body's sum depends on the record's number."""
    old, new = packed(7), packed(8)
    new[RECORD_HEADER_BYTES:] = old[RECORD_HEADER_BYTES:]
    mixed = packed(8, body_sum=parse_header(old, 0).body_sum)  # type: ignore[union-attr]
    header = parse_header(mixed, 0)
    assert header is not None
    assert not body_intact(mixed, 0, header)
    with pytest.raises(CorruptRecordError):
        read_record(mixed, 0)
    with pytest.raises(CorruptRecordError):
        read_sections(mixed, 0, sections_sum(header._replace(lsn=7), NODE, EXT))


@pytest.mark.parametrize(
    "changed",
    [
        {"version": JOURNAL_VERSION + 1},
        {"kind": 77},
        {"state_kind": 77},
        {"kind": int(Kind.SEAL)},  # one with a body
        {"length": LENGTH + 64},
        {"length": LENGTH - 64},
        {"length": 0},
        {"node_len": len(NODE) + 64},
        {"state_len": 0},
        {"magic": b"XXXX"},
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense(changed: dict[str, Any]) -> None:
    assert parse_header(packed(**changed), 0) is None


def test_a_record_that_ends_behind_its_segment() -> None:
    record = packed()
    header = parse_header(record, 0)
    assert header is not None
    short = record[: LENGTH - 64]
    assert parse_header(short, 0) == header
    assert not body_intact(short, 0, header)
    with pytest.raises(CorruptRecordError, match="ends behind"):
        read_record(short, 0)
    assert parse_header(record[: RECORD_HEADER_BYTES - 1], 0) is None


def test_sections_are_what_they_were() -> None:
    record = packed()
    header = parse_header(record, 0)
    assert header is not None
    expected = sections_sum(header, NODE, EXT)
    assert read_sections(record, 0, expected) == (header, NODE, EXT)
    for part in (0, len(NODE)):
        damaged = bytearray(record)
        damaged[RECORD_HEADER_BYTES + part] ^= 1
        with pytest.raises(CorruptRecordError, match="has changed"):
            read_sections(damaged, 0, expected)


@pytest.mark.parametrize("latency_us", [0, 1, 999_999, 1 << 60])
def test_outcomes(latency_us: int) -> None:
    word = pack_outcome(7, 1, latency_us)
    found = unpack_outcome(7, word)
    assert found is not None
    assert found[0] == 1
    assert found[1] == latency_us or latency_us == 1 << 60
    assert unpack_outcome(8, word) is None, "of another record"


def test_what_no_outcome_means_is_none() -> None:
    """A newer livingai, or nobody, may have written it."""
    for code in range(1 << OUTCOME_STATUS_BITS):
        found = unpack_outcome(7, pack_outcome(7, code, 1000))
        assert found == ((code, 1000) if code in STATUS_BY_CODE else None)
    assert len(STATUS_BY_CODE) < 1 << OUTCOME_STATUS_BITS


def test_every_bit_of_an_outcome_is_under_its_check() -> None:
    """The check has a few bits, so it is tried on many: hardly any flip passes."""
    for bit in range(64):
        words = ((lsn, pack_outcome(lsn, 1, 5000) ^ 1 << bit) for lsn in range(1, 401))
        passed = [lsn for lsn, word in words if unpack_outcome(lsn, word) is not None]
        assert len(passed) < 4, f"bit {bit}"


def test_a_segment_that_was_cut_short_has_no_outcome() -> None:
    """Whoever looks for the outcome of a record whose place is gone goes on."""
    for size in (0, 16, RECORD_HEADER_BYTES - 1):
        assert read_outcome(bytes(size), 0, 7) is None
        assert read_outcome(bytes(4096 + size), 4096, 7) is None
