"""Patches: states that are written as what differs from an earlier state of the same claim.

Rules:

1. A patch builds on one record of its journal, the *base*, whose state is whole; never on another
   patch. So a damaged patch costs itself alone, and a state is rebuilt from two records.
2. The base is named by the claim (which is the patch's own), by its number within the claim, and by
   the content hash of its state. Its position is only where to look first: records move when an
   fdatasync fails. What is found there has to be that write.
3. No segment that holds the base of a patch without outcome is reused or deleted
   (:mod:`livingai.queue.space`): what the store cannot use as a patch is rebuilt from the journal.
   A patch with an outcome may outlive its base. Then the cache does not know its state, and the
   store does.
4. A patch carries the content hash (128 bits) of the whole state; what is rebuilt has that hash, or
   is not returned.
5. A base lies before its patch in the same journal, and no record counts as synced before all that
   lie before it. So a power loss leaves no synced patch without its base, unless the store has it.
"""

from __future__ import annotations

from typing import NamedTuple

from livingai import codecs
from livingai.codecs import Codec
from livingai.errors import CorruptBlobError, CorruptRecordError, MissingBaseError
from livingai.queue.layout import (
    MOST_SEGMENTS_BACK,
    MOST_WRITES_BACK,
    PATCH_HASH_BYTES,
    RECORD_HEADER_BYTES,
    Flag,
    aligned,
    offset_of,
    pack_place,
    segment_of,
    unpack_place,
)
from livingai.queue.record import (
    Bytes,
    Record,
    RecordHeader,
    body_bytes,
    pack_record,
    parse_header,
)
from livingai.queue.segment import SegmentMap
from livingai.queue.segments import Segments


class Base(NamedTuple):
    """A whole state in the own journal that patches may build on: position and number (within the
    claim) of its record, content hash and length of the state, and :attr:`.Journal.reliance` when
    it was written."""

    at: int
    seq: int
    content_hash: bytes
    nbytes: int
    reliance: int


class Patch(NamedTuple):
    """A state section that holds a patch, and what it builds on."""

    section: bytes
    base: Base


def make_patch(
    state: bytes, segment: SegmentMap, base: Base, *, most: int
) -> tuple[Patch | None, int]:
    """The patch that makes ``state`` of a base in a mapped segment, and how many bytes of the state
    the base has. None: it would have more than ``most`` bytes of its own, or the base is not there.
    """
    start, end = _state_place(segment, base)
    if end - start != base.nbytes:
        return None, 0
    with segment.view[start:end] as view:
        encoded, copied = codecs.encode_patch(
            state, view, lambda part, origin: segment.find(part, start + origin, end) - start,
            most=most,
        )  # fmt: skip
    if encoded is None or encoded.base_hash != base.content_hash:
        return None, copied
    section = codecs.content_hash(state) + encoded.blob
    return (Patch(section, base) if len(section) < len(state) else None), copied


def _state_place(segment: SegmentMap, base: Base) -> tuple[int, int]:
    """Where the base's state begins and ends; (0, 0) if the base is not there."""
    offset = offset_of(base.at)
    header = parse_header(segment.view, offset)
    if header is None or header.segment != segment_of(base.at) or header.seq != base.seq:
        return 0, 0
    return _state_of(header, offset)


def _state_of(header: RecordHeader, offset: int) -> tuple[int, int]:
    start = offset + header.state_offset
    return start, start + header.state_len


def reaches(base: Base, segment: int, seq: int) -> bool:
    """Whether a record in this segment, with this number, can name the base."""
    back = segment - segment_of(base.at)
    return 0 <= back <= MOST_SEGMENTS_BACK and 0 < seq - base.seq <= MOST_WRITES_BACK


def is_patch(header: RecordHeader) -> bool:
    """Whether the state section holds a patch."""
    return header.codec != 0


def base_position(header: RecordHeader) -> int:
    """Where the base of a patch was when that was written."""
    return unpack_place(header.base_place, header.segment)


def blob_of(record: Record) -> tuple[bytes, bytes]:
    """The blob of a patch, as the store takes it, and the content hash of its whole state.

    Raises:
        CorruptRecordError: the section holds none.
    """
    section = record.state
    blob = section[PATCH_HASH_BYTES:]
    if record.header.codec != Codec.DELTA or not blob or blob[0] != Codec.DELTA:
        raise CorruptRecordError(
            f"record {record.header.lsn} has a state of a form (codec {record.header.codec}) that "
            "this livingai does not know; a newer one may have written it: upgrade livingai"
        )
    return blob, section[:PATCH_HASH_BYTES]


def state_bytes(header: RecordHeader, section: bytes | memoryview) -> int:
    """Length of the whole state of a record with this state section (of a patch, its beginning is
    enough), by what that says."""
    if not is_patch(header):
        return header.state_len
    try:
        return codecs.size_of(section[PATCH_HASH_BYTES:])
    except CorruptBlobError:
        return 0


def with_state(segments: Segments, record: Record) -> Record:
    """The record, of one of these segments, with its whole state. Mappings that the caller has got
    from ``segments`` before may be closed.

    Raises:
        CorruptRecordError: it is a patch, and the state that it builds on is damaged, or gone.
        OSError: a segment cannot be opened now.
    """
    header = record.header
    if not is_patch(header):
        return record
    blob, content_hash = blob_of(record)
    at = base_position(header)
    segment = segments.get(segment_of(at))
    base = None if segment is None else parse_header(segment.view, offset_of(at))
    if base is not None and not _is_base(base, header, segment_of(at)):
        base = None
    if segment is None or base is None:
        if segment_of(at) != header.segment:
            # Recycled since it was mapped, perhaps: the name leads to another file by now.
            segments.drop(segment_of(at))
        raise CorruptRecordError(f"{_builds_on(header)}, which is not there")
    start, end = _state_of(base, offset_of(at))
    try:
        with segment.view[start:end] as view:
            state = codecs.decode(
                blob,
                fetch_base=lambda _: view,
                max_bytes=codecs.size_of(blob),
                expected_hash=content_hash,
            )
    except (CorruptBlobError, MissingBaseError) as error:
        raise CorruptRecordError(f"{_builds_on(header)}, which is damaged") from error
    return record._replace(state=state)


def copy_record(old: Record, segment: int, lsn: int, base: int) -> list[Bytes]:
    """The parts of a record that is the same write as ``old``, at another place. ``base``: the
    position of what it builds on; 0: its state is whole."""
    header = old.header
    back = segment - segment_of(base) if base else 0
    packed = pack_record(
        kind=header.kind, flags=header.flags, state_kind=header.state_kind,
        journal_id=header.journal_id, segment=segment, lsn=lsn, claim=header.claim,
        epoch=header.epoch, seq=header.seq, mono_ns=header.mono_ns, wall_ns=header.wall_ns,
        key=header.execution_hash, node=old.node, ext=old.ext, state=old.state,
        budget_us=header.budget_us, length=aligned(RECORD_HEADER_BYTES + body_bytes(old)),
        codec=header.codec if base else 0, base_back=header.base_back if base else 0,
        base_place=pack_place(base, segment) if base and back <= MOST_SEGMENTS_BACK else 0,
    )  # fmt: skip
    return [packed, old.node, old.ext, old.state]


def standing_bytes(record: Record) -> bytes:
    """The bytes of a record whose state :func:`with_state` has rebuilt, as a record of the same
    place with a whole state."""
    header = record.header
    whole = b"".join(copy_record(record, header.segment, header.lsn, 0))
    return whole.ljust(aligned(len(whole)), b"\0")


def _is_base(base: RecordHeader, patch: RecordHeader, segment: int) -> bool:
    return (
        base.segment == segment
        and base.journal_id == patch.journal_id
        and base.execution_hash == patch.execution_hash
        and base.claim == patch.claim
        and base.seq == patch.seq - patch.base_back
        and base.codec == 0
        and bool(base.flags & Flag.STATE)
    )


def _builds_on(header: RecordHeader) -> str:
    return (
        f"record {header.lsn} holds what has changed since the state of write "
        f"{header.seq - header.base_back} of its claim"
    )
