"""Encoding a record of a journal, and who does it.

Rules:

1. Places in journals are named, and the bytes read from the mapped journal; states are never sent.
2. A compressor costs 0.3 to 0.6 ms of CPU for the way there and back. So the writer encodes what
   takes less than that (:func:`is_quick`): small states, and those which copy much of the state
   before.
3. Whether a larger state does so is seen when it is compared. If it does not, the writer gives the
   record back and a compressor encodes it, and those of its execution that come behind it, until
   one of them copies much again.
4. A patch (:mod:`livingai.queue.patch`) is stored as it is, but for its literals, which the writer
   compresses. If the store does not have its base, its state is rebuilt and encoded as any other.
"""

from __future__ import annotations

from typing import Final

from livingai import codecs
from livingai.errors import CorruptRecordError
from livingai.queue.layout import offset_of
from livingai.queue.patch import with_state
from livingai.queue.record import Record, read_record
from livingai.queue.segment_cache import SegmentCache
from livingai.workers.encoding_task import EncodingTask

#: Up to so many bytes a state is encoded quickly whatever is in it; beyond so many (comparing takes
#: 1 ms per 8 MB at least) not even if it copies much.
ALONE_BYTES: Final = 16_384
MOST_BYTES: Final = 4_194_304


def is_quick(size: int, *, based: bool, slow: bool, codec: str) -> bool:
    """Whether the writer tries a state of so many bytes. ``based``: it has a base; ``slow``: the
    one before took long."""
    if size <= ALONE_BYTES:
        return True
    return size <= MOST_BYTES and based and not slow and codec == "auto"


class Unencoded(Exception):
    """The record takes longer than the writer should spend on it; with its execution's hash."""

    def __init__(self, key: int) -> None:
        super().__init__(key)
        self.key = key


def encode(segments: SegmentCache, task: EncodingTask, codec: str) -> tuple[Record, codecs.Encoded]:
    """Read a record and encode its state, against the previous one if that is still there.

    Raises:
        CorruptRecordError: the record is damaged, or gone.
    """
    record = _read(segments, task.journal, task.position)
    return record, codecs.encode(record.state, codec=codec, base=_base(segments, task))


def encode_quickly(
    segments: SegmentCache, task: EncodingTask, codec: str
) -> tuple[Record, codecs.Encoded]:
    """As :func:`encode`, unless that takes long.

    Raises:
        CorruptRecordError: the record is damaged, or gone.
        Unencoded: it takes long.
    """
    record = _read(segments, task.journal, task.position)
    base = _base(segments, task)
    if len(record.state) <= ALONE_BYTES:
        return record, codecs.encode(record.state, codec=codec, base=base)
    encoded = codecs.encode_delta(record.state, base) if base and codec == "auto" else None
    if encoded is None:
        raise Unencoded(record.header.execution_hash)
    return record, encoded


def _base(segments: SegmentCache, task: EncodingTask) -> bytes | None:
    """The previous state; None if there is none, or no longer."""
    if not task.base_position:
        return None
    try:
        return _read(segments, task.journal, task.base_position).state
    except CorruptRecordError:
        return None


def _read(segments: SegmentCache, journal: str, position: int) -> Record:
    record = read_record(segments.view(journal, position), offset_of(position))
    return with_state(segments.segments(journal), record)
