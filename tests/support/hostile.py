"""Numbers in the files of a journal, made up: each with a checksum that fits."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import xxhash

from livingai.queue.layout import (
    CONTROL_FIELDS,
    CURSOR_SLOT,
    CURSOR_SLOT_OFFSETS,
    INDEX_FIELDS,
    INDEX_HEADER_BYTES,
    RECORD_FIELDS,
    RECORD_HEADER_BYTES,
    RECORD_SUM_OFFSET,
    SEGMENT_FIELDS,
    SEGMENT_HEADER_BYTES,
    TALLY_FIELDS,
    TALLY_MARK,
    ControlWord,
    Kind,
)
from livingai.queue.record import RecordHeader, parse_header
from tests.support.journals import segment_files

#: Small, large, the largest, and one beside what is there.
VALUES: dict[str, Callable[[int], int]] = {
    "0": lambda _: 0,
    "1": lambda _: 1,
    "one less": lambda is_: is_ - 1,
    "one more": lambda is_: is_ + 1,
    "2**60": lambda _: 2**60,
    "2**63": lambda _: 2**63,
    "2**64-1": lambda _: 2**64 - 1,
}
_SIZES = {"Q": 8, "I": 4, "H": 2, "B": 1}


def _fit(value: int, size: int) -> int:
    return value & ((1 << 8 * size) - 1)


def _sum(data: bytes, seed: int = 0) -> bytes:
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(data, seed))


def _change(data: bytearray, at: int, size: int, value: Callable[[int], int]) -> None:
    is_ = int.from_bytes(data[at : at + size], "little")
    data[at : at + size] = _fit(value(is_), size).to_bytes(size, "little")


def summed_record(data: bytes) -> bytes:
    """A record whose sums fit; bytes that are too short for one stay as they are."""
    if len(data) < RECORD_HEADER_BYTES:
        return data
    header = RecordHeader._make(RECORD_FIELDS.unpack_from(data))
    body = data[RECORD_HEADER_BYTES:][: header.body_len]
    start = data[:104] + _sum(body, header.lsn)
    return start + _sum(start) + data[RECORD_SUM_OFFSET + 8 :]


def summed_control(data: bytes) -> bytes:
    """A control page whose sum fits."""
    at = 8 * ControlWord.HEADER_SUM
    return data[:at] + _sum(data[: CONTROL_FIELDS.size]) + data[at + 8 :]


def summed_cursor(data: bytes, journal_id: int) -> bytes:
    """A cursor page whose slots' sums fit."""
    for at in CURSOR_SLOT_OFFSETS:
        numbers = data[at : at + 24]
        if len(numbers) == 24 and any(numbers):
            data = data[: at + 24] + _sum(numbers + bytes(8), journal_id) + data[at + 32 :]
    return data


def summed_tally(data: bytes) -> bytes:
    """A tally whose first slot's sum fits, if it is as long as it says."""
    if len(data) < TALLY_FIELDS.size:
        return data
    _, _, counters, marks = TALLY_FIELDS.unpack_from(data)
    end = TALLY_FIELDS.size + 8 * counters + TALLY_MARK.size * marks
    return data[:end] + _sum(data[:end]) + data[end + 8 :] if end + 8 <= len(data) else data


def summed_index(data: bytes) -> bytes:
    """An index whose header's sum fits."""
    end = INDEX_FIELDS.size
    return data[:end] + _sum(data[:end]) + data[end + 8 :]


#: Offset and size of what is a number in each header.
SEGMENT = {
    "journal_id": (16, 8), "number": (24, 4), "size": (32, 8), "first_lsn": (40, 8),
    "wall_ns": (48, 8), "boot_id": (56, 8), "boot_order": (72, 8),
}  # fmt: skip
RECORD = {
    "kind": (5, 1), "flags": (6, 1), "state_kind": (7, 1), "journal_id": (8, 8), "segment": (16, 4),
    "length": (20, 4), "lsn": (24, 8), "claim": (32, 8), "epoch": (40, 8), "seq": (48, 8),
    "mono_ns": (56, 8), "wall_ns": (64, 8), "execution_hash": (72, 8), "node_len": (80, 4),
    "ext_len": (84, 4), "state_len": (88, 4), "budget_us": (92, 4), "codec": (96, 1),
    "base_back": (98, 2), "base_place": (100, 4),
}  # fmt: skip
CONTROL = {"journal_id": (16, 8), "boot_id": (24, 8), "created_ns": (40, 8), "boot_order": (48, 8)}
CONTROL_WORDS = [word for word in ControlWord if word is not ControlWord.HEADER_SUM]
CURSOR = {"generation": 0, "lsn": 1, "position": 2}
INDEX = {"journal_id": (16, 8), "sets": (24, 8), "node_slots": (32, 8), "boot_id": (40, 8)}


def places(path: Path) -> Iterator[tuple[int, RecordHeader]]:
    """Offset and header of each record and seal of a segment file, in order."""
    data, at = path.read_bytes(), SEGMENT_HEADER_BYTES
    while (header := parse_header(data, at)) is not None:
        yield at, header
        at += header.length


def segment(path: Path, field: str, value: Callable[[int], int]) -> None:
    """Change a field of a segment's header."""
    data = bytearray(path.read_bytes())
    _change(data, *SEGMENT[field], value)
    end = SEGMENT_FIELDS.size
    data[end : end + 8] = _sum(bytes(data[:end]))
    path.write_bytes(data)


def record(path: Path, at: int, field: str, value: Callable[[int], int]) -> None:
    """Change a field of a record's header; both of its sums fit afterwards."""
    data = bytearray(path.read_bytes())
    start, size = RECORD[field]
    _change(data, at + start, size, value)
    data[at:] = summed_record(bytes(data[at:]))
    path.write_bytes(data)


def seal(path: Path, field: str, value: Callable[[int], int]) -> None:
    """Change a field of the seal of a segment."""
    at = next(at for at, header in places(path) if header.kind == Kind.SEAL)
    record(path, at, field, value)


def control(journal: str, field: str | ControlWord, value: Callable[[int], int]) -> None:
    """Change a field or a word of the control page."""
    path = Path(journal) / "control"
    data = bytearray(path.read_bytes())
    at, size = (8 * field, 8) if isinstance(field, ControlWord) else CONTROL[field]
    _change(data, at, size, value)
    path.write_bytes(summed_control(bytes(data)))


def cursor(journal: str, journal_id: int, *, generation: int, lsn: int, position: int) -> None:
    """Write a slot of the cursor page."""
    path = Path(journal) / "cursor"
    data = bytearray(path.read_bytes().ljust(4096, b"\0"))
    for at in CURSOR_SLOT_OFFSETS:
        slot = CURSOR_SLOT.pack(generation, lsn, position, 0)
        data[at : at + CURSOR_SLOT.size] = slot[:24] + _sum(slot, journal_id)
    path.write_bytes(data)


def index(journal: str, field: str, value: Callable[[int], int]) -> None:
    """Change a field of the index's header."""
    path = Path(journal) / "index"
    data = bytearray(path.read_bytes())
    _change(data, *INDEX[field], value)
    path.write_bytes(summed_index(bytes(data)))


def index_words(journal: str, value: Callable[[int], int], every: int = 1, first: int = 0) -> None:
    """Change words of an index that are not 0 (its keys are left alone with ``every`` 6)."""
    path = Path(journal) / "index"
    data = bytearray(path.read_bytes())
    for at in range(INDEX_HEADER_BYTES + 8 * first, len(data), 8 * every):
        _change(data, at, 8, value)
    path.write_bytes(data)


def files(journal: str) -> list[Path]:
    """The segments of a journal."""
    return segment_files(journal)
