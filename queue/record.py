"""Records: one saved node each, checksummed over header and body (see ``FORMAT.md``).

The body is three sections: node (msgpack list), extension map (msgpack map, may be empty) and
state. Checksums are XXH3-64; the body's is seeded with the record's lsn, so that the bytes of an
older record in a recycled segment do not pass for a newer one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import xxhash

from livingai.errors import CorruptRecordError
from livingai.outcome import STATUS_BY_CODE
from livingai.queue.layout import (
    FORMAT_VERSION,
    JOURNAL_VERSION,
    OUTCOME_LATENCY_BITS,
    OUTCOME_OFFSET,
    OUTCOME_STATUS_BITS,
    OUTCOME_WORD,
    RECORD_FIELDS,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    RECORD_SUM,
    RECORD_SUM_OFFSET,
    Kind,
    StateKind,
    aligned,
)

_sum64 = xxhash.xxh3_64_intdigest
_hasher = xxhash.xxh3_64
_pack_fields = RECORD_FIELDS.pack
_pack_sum = RECORD_SUM.pack
_unpack_fields = RECORD_FIELDS.unpack_from
_NO_OUTCOME = bytes(8)
_KINDS = frozenset(map(int, Kind))
_STATE_KINDS = frozenset(map(int, StateKind))
_LATENCY_MAX = (1 << OUTCOME_LATENCY_BITS) - 1
_CHECK_SHIFT = OUTCOME_STATUS_BITS + OUTCOME_LATENCY_BITS
_CHECK_MASK = (1 << (64 - _CHECK_SHIFT)) - 1

Bytes = bytes | bytearray | memoryview


class RecordHeader(NamedTuple):
    """A record's header, decoded. Lengths in bytes, times in ns, budget in microseconds."""

    magic: bytes
    version: int
    kind: int
    flags: int
    state_kind: int
    journal_id: int
    segment: int
    length: int
    lsn: int
    claim: int
    epoch: int
    seq: int
    mono_ns: int
    wall_ns: int
    execution_hash: int
    node_len: int
    ext_len: int
    state_len: int
    budget_us: int
    codec: int
    key_id: int
    base_back: int
    base_place: int
    body_sum: int

    @property
    def body_len(self) -> int:
        """Bytes of node, extension and state sections together."""
        return self.node_len + self.ext_len + self.state_len

    @property
    def state_offset(self) -> int:
        """Bytes from the record's beginning to its state section."""
        return RECORD_HEADER_BYTES + self.node_len + self.ext_len


def execution_hash(execution_id: str) -> int:
    """Key of an execution in indexes and partitions; never 0."""
    return _sum64(execution_id.encode("utf-8", "surrogatepass")) or 1


def pack_record(
    *,
    kind: int,
    flags: int,
    state_kind: int,
    journal_id: int,
    segment: int,
    lsn: int,
    claim: int,
    epoch: int,
    seq: int,
    mono_ns: int,
    wall_ns: int,
    key: int,
    node: Bytes,
    ext: Bytes,
    state: Bytes,
    budget_us: int,
    length: int,
    codec: int = 0,
    base_back: int = 0,
    base_place: int = 0,
) -> bytes:
    """The 128 header bytes of a record whose sections follow; its outcome word is empty."""
    node_len, ext_len, state_len = len(node), len(ext), len(state)
    body = _hasher(node, lsn)
    if ext_len:
        body.update(ext)
    if state_len:
        body.update(state)
    fields = _pack_fields(
        RECORD_MAGIC, JOURNAL_VERSION if codec else FORMAT_VERSION, kind, flags, state_kind,
        journal_id, segment, length, lsn, claim, epoch, seq, mono_ns, wall_ns, key, node_len,
        ext_len, state_len, budget_us, codec, 0, base_back, base_place, body.intdigest(),
    )  # fmt: skip
    return fields + _pack_sum(_sum64(fields)) + _NO_OUTCOME


def parse_header(buffer: Bytes, offset: int) -> RecordHeader | None:
    """The record header at ``offset``, or None where there is no intact one."""
    if offset + RECORD_HEADER_BYTES > len(buffer):
        return None
    raw = bytes(buffer[offset : offset + OUTCOME_OFFSET])  # a copy: the bytes may be changing
    if raw[:4] != RECORD_MAGIC:
        return None
    (stored,) = RECORD_SUM.unpack_from(raw, RECORD_SUM_OFFSET)
    if _sum64(raw[:RECORD_SUM_OFFSET]) != stored:
        return None
    header = RecordHeader._make(_unpack_fields(raw, 0))
    if header.version > JOURNAL_VERSION or header.kind not in _KINDS:
        return None
    if header.state_kind not in _STATE_KINDS or (header.kind == Kind.SEAL and header.body_len):
        return None
    if header.length != aligned(RECORD_HEADER_BYTES + header.body_len):
        return None
    return header


def body_intact(buffer: Bytes, offset: int, header: RecordHeader) -> bool:
    """Whether the body behind the header at ``offset`` is all there and matches its checksum."""
    start = offset + RECORD_HEADER_BYTES
    end = start + header.body_len
    if end > len(buffer):
        return False
    with memoryview(buffer) as view, view[start:end] as body:
        return _sum64(body, header.lsn) == header.body_sum


class Record(NamedTuple):
    """A verified record, copied out of its segment."""

    header: RecordHeader
    node: bytes
    ext: bytes
    state: bytes


def body_bytes(record: Record) -> int:
    """Bytes of its sections together."""
    return len(record.node) + len(record.ext) + len(record.state)


def read_record(buffer: Bytes, offset: int, header: RecordHeader | None = None) -> Record:
    """Copy the record at ``offset`` out and verify the copy.

    The copy comes first: the owner may recycle the segment at any moment, and a checksum over
    bytes that can still change proves nothing.

    Raises:
        CorruptRecordError: there is no intact record.
    """
    header = header or parse_header(buffer, offset)
    if header is None:
        raise CorruptRecordError(f"no record header at offset {offset}")
    a = offset + RECORD_HEADER_BYTES
    b = a + header.node_len
    c = b + header.ext_len
    d = c + header.state_len
    if d > len(buffer):
        raise CorruptRecordError(f"the record at offset {offset} ends behind its segment")
    node, ext, state = bytes(buffer[a:b]), bytes(buffer[b:c]), bytes(buffer[c:d])
    digest = _hasher(node, header.lsn)
    if ext:
        digest.update(ext)
    if state:
        digest.update(state)
    if digest.intdigest() != header.body_sum:
        raise CorruptRecordError(f"the record at offset {offset} fails its body checksum")
    return Record(header, node, ext, state)


def sections_sum(header: RecordHeader, node: Bytes, ext: Bytes) -> int:
    """A checksum of all but the state, for :func:`read_sections`."""
    digest = _hasher(node, header.lsn)
    digest.update(ext)
    return digest.intdigest()


def read_sections(buffer: Bytes, offset: int, expected: int) -> tuple[RecordHeader, bytes, bytes]:
    """Header, node and extension section of a record that :func:`read_record` has verified before;
    ``expected`` is the :func:`sections_sum` from then. Does not touch the state.

    Raises:
        CorruptRecordError: they are not what they were.
    """
    header = parse_header(buffer, offset)
    if header is None:
        raise CorruptRecordError(f"no record header at offset {offset}")
    a = offset + RECORD_HEADER_BYTES
    b = a + header.node_len
    node, ext = bytes(buffer[a:b]), bytes(buffer[b : b + header.ext_len])
    if sections_sum(header, node, ext) != expected:
        raise CorruptRecordError(f"the record at offset {offset} has changed")
    return header, node, ext


def seal_record(**fields: Any) -> bytes:
    """The header-only record that ends a segment."""
    empty = b""
    return pack_record(
        kind=Kind.SEAL, flags=0, state_kind=0, claim=0, epoch=0, seq=0, key=0, node=empty,
        ext=empty, state=empty, budget_us=0, length=RECORD_HEADER_BYTES, **fields,
    )  # fmt: skip


def pack_outcome(lsn: int, status: int, latency_us: int) -> int:
    """The outcome word of record ``lsn``: status 1..15, latency saturating at 19 hours."""
    word = status | min(max(latency_us, 0), _LATENCY_MAX) << OUTCOME_STATUS_BITS
    return word | _outcome_check(lsn, word) << _CHECK_SHIFT


def unpack_outcome(lsn: int, word: int) -> tuple[int, int] | None:
    """(status, latency_us), or None where the word is empty, fails its check or says nothing."""
    body = word & ((1 << _CHECK_SHIFT) - 1)
    status = body & ((1 << OUTCOME_STATUS_BITS) - 1)
    if status not in STATUS_BY_CODE or _outcome_check(lsn, body) != word >> _CHECK_SHIFT:
        return None
    return status, body >> OUTCOME_STATUS_BITS


def read_outcome(buffer: Bytes, offset: int, lsn: int) -> tuple[int, int] | None:
    """The outcome of record ``lsn`` whose header is at ``offset``, or None."""
    if offset + RECORD_HEADER_BYTES > len(buffer):
        return None  # the segment was cut short
    (word,) = OUTCOME_WORD.unpack_from(buffer, offset + OUTCOME_OFFSET)
    return unpack_outcome(lsn, word) if word else None


def _outcome_check(lsn: int, word: int) -> int:
    return _sum64(word.to_bytes(8, "little"), lsn) & _CHECK_MASK
