"""The bytes of the journal: every struct, flag and constant, beside the code that packs them.

``FORMAT.md`` beside this file is the reference; ``tests/unit/queue/test_format.py`` checks this
module against its tables. All integers are little-endian. Positions are made by
:func:`position` and taken apart by :func:`segment_of` and :func:`offset_of`.

Rules:

1. A reader accepts a record only if its header sum, its body sum, its journal id and its segment
   number all fit. Nothing else (lengths, indexes, published tails) is trusted without them.
2. Only the owner of a journal writes records; only the service writes outcome words and cursors.
3. A byte that an older version wrote keeps its meaning; new fields take reserved bytes and a new
   ``version``, sections take new keys in the extension map.
"""

from __future__ import annotations

import struct
from enum import IntEnum, StrEnum
from typing import Final

#: Of the manifest, segment headers, indexes, and records whose state section is whole.
FORMAT_VERSION: Final = 1
#: Of journals (their control page) and of the patches in them: a livingai that knows none refuses
#: such a journal, but reads what is whole in it, and marks its index.
JOURNAL_VERSION: Final = 2
ALIGNMENT: Final = 64

# --- record --------------------------------------------------------------------------------------

RECORD_MAGIC: Final = b"LAIr"
#: Fields before the header sum, in order; see FORMAT.md for the table.
RECORD_FIELDS: Final = struct.Struct("<4sBBBBQIIQQQQQQQIIIIBBHIQ")
RECORD_SUM: Final = struct.Struct("<Q")
RECORD_HEADER_BYTES: Final = 128
RECORD_SUM_OFFSET: Final = 112
OUTCOME_OFFSET: Final = 120
assert RECORD_FIELDS.size == RECORD_SUM_OFFSET
assert RECORD_SUM_OFFSET + RECORD_SUM.size == OUTCOME_OFFSET
assert OUTCOME_OFFSET + 8 == RECORD_HEADER_BYTES


class Kind(IntEnum):
    """What a record is."""

    #: A saved node, with or without state.
    WRITE = 1
    #: The end of a segment: the journal goes on in the next one.
    SEAL = 2


class Flag(IntEnum):
    """Bits of a record: what the service must know without decoding its body. No IntFlag: its
    ``&`` takes 0.7 microseconds, of which every record would pay a dozen."""

    #: The state section is a checkpoint (it may be empty bytes).
    STATE = 1
    #: Older states of the execution need not be kept: this one may supersede them.
    LATEST_ONLY = 2
    #: The state section is encrypted; the extension map names key and nonce.
    ENCRYPTED = 4
    #: The state is stored as a whole, not as a delta.
    WHOLE = 8
    #: The state section is whole, and patches of later states may build on it.
    BASE = 16


class StateKind(IntEnum):
    """How the decoded state section becomes the value that the caller saved."""

    NONE = 0
    BYTES = 1
    MSGPACK = 2
    BYTEARRAY = 3


class ExtensionKey(StrEnum):
    """Keys of the extension map that are not the caller's tags: all that begin with ``_``."""

    #: Owner token of a record that was queued again, as ``<journal id>-<claim>`` in hex.
    OWNER = "_owner"
    #: Tenant that the execution belongs to. Reserved.
    TENANT = "_tenant"
    #: W3C trace context of the save: the text of a ``traceparent``.
    TRACE = "_trace"
    #: Content hash of the state that the state section is a delta against. Reserved.
    BASE = "_base"
    #: Key id and nonce of an encrypted state section. Reserved.
    ENCRYPTION = "_encryption"


# --- outcome word --------------------------------------------------------------------------------

#: ``status`` (4 bits) | ``latency_us`` (36 bits) << 4 | check (24 bits) << 40; 0 means none yet.
OUTCOME_STATUS_BITS: Final = 4
OUTCOME_LATENCY_BITS: Final = 36
OUTCOME_WORD: Final = struct.Struct("<Q")

# --- segment -------------------------------------------------------------------------------------

SEGMENT_MAGIC: Final = b"LAISEG\0\1"
#: magic, version, reserved, journal id, segment number, reserved, size, first lsn, wall ns, boot
#: id, boot order
SEGMENT_FIELDS: Final = struct.Struct("<8sIIQIIQQQ16sQ32x")
SEGMENT_HEADER_BYTES: Final = 128
assert SEGMENT_FIELDS.size + RECORD_SUM.size == SEGMENT_HEADER_BYTES - 8

# --- control (written by the owner) --------------------------------------------------------------

CONTROL_BYTES: Final = 4096
CONTROL_MAGIC: Final = b"LAICTL\0\1"
#: magic, version, reserved, journal id, boot id, created wall ns, boot order
CONTROL_FIELDS: Final = struct.Struct("<8sIIQ16sQQ")
assert CONTROL_FIELDS.size == 56


class ControlWord(IntEnum):
    """Indexes of 64-bit words in the control file."""

    #: xxh3_64 of the fields before it.
    HEADER_SUM = 7
    #: Position behind the last complete record.
    TAIL = 8
    #: Sequence number of the last complete record.
    TAIL_LSN = 9
    #: Largest lsn that fdatasync has covered.
    SYNCED_LSN = 10
    #: 1 after the owner closed the journal in order.
    CLOSED = 11
    #: Microseconds for which saves have waited for room in the journal. 0 of an owner of a livingai
    #: that did not count them, as the next one.
    WAITED_US = 12
    #: :attr:`TAIL` as it was when the last fdatasync that has succeeded began.
    SYNCED_TAIL = 13


# --- cursor (written by the service) -------------------------------------------------------------

CURSOR_BYTES: Final = 4096
#: generation, lsn, position, xxh3_64 of the three seeded with the journal id. Two slots.
CURSOR_SLOT: Final = struct.Struct("<QQQQ")
CURSOR_SLOT_OFFSETS: Final = (0, 64)

# --- tallies (one written by the dispatcher, one by the writers) ----------------------------------

TALLY_MAGIC: Final = b"LAITLY\0\1"
TALLY_SLOT_BYTES: Final = 1 << 18
#: magic, generation, number of counters, number of marks. Then counters, marks, and a checksum.
TALLY_FIELDS: Final = struct.Struct("<8sQQQ")
#: Journal id, the last lsn that is counted, the microseconds of ``WAITED_US`` that are counted.
TALLY_MARK: Final = struct.Struct("<QQQ")

# --- index (written by the owner; the "taken" word by the process that takes over) -----------

INDEX_MAGIC: Final = b"LAIIDX\0\1"
#: magic, version, reserved, journal id, execution sets, node slots, boot id; then their sum
INDEX_FIELDS: Final = struct.Struct("<8sIIQQQ16s")
INDEX_HEADER_BYTES: Final = 64
assert INDEX_FIELDS.size + RECORD_SUM.size == INDEX_HEADER_BYTES
#: Ways of a set; a set whose ways are all in use evicts one.
INDEX_WAYS: Final = 4


class SlotWord(IntEnum):
    """Words of an execution's slot in the index."""

    #: xxh3_64 of the execution id; 0 is an empty slot.
    KEY = 0
    #: Position of the newest record with a state; 0 if there is none.
    STATE = 1
    #: Position of the newest record; 0 until the claim has one.
    NEWEST = 2
    #: The owner's claim on the execution.
    CLAIM = 3
    #: Sequence number (within the claim) of the newest record; 0 before the claim's first one.
    SEQ = 4
    #: Not 0: another process has taken the execution over, this slot no longer counts.
    TAKEN = 5


SLOT_WORDS: Final = 6
#: What takers write: larger than any claim.
TAKEN_OVER: Final = (1 << 64) - 1
SET_WORDS: Final = INDEX_WAYS * SLOT_WORDS
#: A node's slot: key, position.
NODE_WORDS: Final = 2
#: Last-use times (CLOCK_MONOTONIC ns) by segment number modulo this.
TOUCH_WORDS: Final = 256

# --- service state (written by the service) ------------------------------------------------------

SERVICE_STATE_BYTES: Final = 4096


class ServiceWord(IntEnum):
    """Words of the service's shared state file."""

    #: What the dispatcher waits for, see :class:`WakeFor`.
    WAITING = 0
    #: Process id of the dispatcher.
    PID = 1
    #: CLOCK_MONOTONIC ns of its last turn.
    HEARTBEAT_NS = 2
    #: For how long it lingers, ns.
    LINGER_NS = 3


class WakeFor(IntEnum):
    """For what to wake the dispatcher: values of :attr:`ServiceWord.WAITING`. An agent of an
    earlier livingai takes any but 0 for ``APPENDS``."""

    #: It is at work, and looks again before it waits.
    NOTHING = 0
    #: The next append has to wake it.
    APPENDS = 1
    #: It looks again soon: an append has to wake it only if somebody waits for the outcome, or the
    #: record's budget is less than twice ``LINGER_NS``.
    HASTE = 2


#: A position is 32 bits of segment number and 32 bits of offset: numbers are below this, and no
#: segment is larger.
SEGMENT_NUMBERS: Final = 1 << 32
LARGEST_SEGMENT: Final = 1 << 32


def position(segment: int, offset: int) -> int:
    """The place of byte ``offset`` of segment ``segment`` in its journal, as one number."""
    return segment << 32 | offset


def segment_of(position: int) -> int:
    """The number of the segment that a position is in."""
    return position >> 32


def offset_of(position: int) -> int:
    """The offset of a position in its segment, in bytes."""
    return position & 0xFFFF_FFFF


def owner_token(journal_id: int, claim: int) -> str:
    """The name under which a store knows the claim of a journal: both numbers in hex."""
    return f"{journal_id:016x}-{claim:x}"


def aligned(nbytes: int) -> int:
    """``nbytes`` rounded up to the alignment of records."""
    return (nbytes + ALIGNMENT - 1) & -ALIGNMENT


# --- patches -------------------------------------------------------------------------------------

#: Content hash of the whole state; a delta blob (:mod:`livingai.codecs`) follows.
PATCH_HASH_BYTES: Final = 16
#: ``base_place`` is segments back (6 bits) << 26 | offset / ``ALIGNMENT`` (26 bits).
_PLACE_BITS: Final = 26
MOST_SEGMENTS_BACK: Final = (1 << 32 - _PLACE_BITS) - 1
MOST_WRITES_BACK: Final = (1 << 16) - 1


def pack_place(base: int, segment: int) -> int:
    """The place of the record at position ``base`` as a record in ``segment`` names it."""
    return segment - segment_of(base) << _PLACE_BITS | offset_of(base) // ALIGNMENT


def unpack_place(place: int, segment: int) -> int:
    """The position behind :func:`pack_place`."""
    offset = (place & (1 << _PLACE_BITS) - 1) * ALIGNMENT
    return position(segment - (place >> _PLACE_BITS), offset)
