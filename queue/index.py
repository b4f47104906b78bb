"""The hot cache's index: where in a journal the newest state of an execution lies.

One file per journal, mapped by every process that reads. Rules:

1. The owner of the journal is the only writer of a slot's words, except for ``TAKEN``: a process
   that takes an execution over sets that word in the slots of all other journals, and the owner
   clears it only when it begins a new claim itself. (It sets it when it resumes one, see there.) A
   slot that is taken never counts, so a journal that is removed later, or a slot that is evicted,
   cannot bring an older state back to light.
2. A taker marks the others after it has read its first record's acceptance time and before it
   writes that record (:meth:`Journal.append`). Every claim that was older by then had its slot.
3. A slot that is reused forgets its state first, and is un-taken last.
4. The index is a hint: a reader verifies the record that it finds, so a torn or stale word costs
   a fallback to the store and never a wrong byte. After a reboot it is no hint at all, because
   its pages are never synced; the boot id in the header shows that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from livingai.queue.layout import (
    FORMAT_VERSION,
    INDEX_FIELDS,
    INDEX_HEADER_BYTES,
    INDEX_MAGIC,
    INDEX_WAYS,
    NODE_WORDS,
    RECORD_SUM,
    SET_WORDS,
    SLOT_WORDS,
    TAKEN_OVER,
    TOUCH_WORDS,
    Flag,
    SlotWord,
)
from livingai.queue.mapping import map_file
from livingai.queue.opening import open_file
from livingai.queue.record import RecordHeader
from livingai.queue.segment import journal_error

NAME = "index"
#: Claims are milliseconds since 1970, or a little more; stores keep 63 bits.
_LAST_CLAIM = (1 << 62) - 1
_HEADER_WORDS = INDEX_HEADER_BYTES // 8
_STATE, _NEWEST, _CLAIM, _SEQ, _TAKEN = (int(word) for word in list(SlotWord)[1:])


class Slot(NamedTuple):
    """An execution's entry: positions of its newest record with a state (0: none) and of its
    newest record (0: none yet), claim and seq of the latter, and whether it was taken over."""

    state: int
    newest: int
    claim: int
    seq: int
    taken: int

    @property
    def superseded(self) -> bool:
        """Whether another process has taken the execution over."""
        return self.taken != 0


def create_index(directory: str, journal_id: int, sets: int, node_slots: int, boot: bytes) -> None:
    """Make and preallocate an index file. Raises DiskFullError, JournalError."""
    size = INDEX_HEADER_BYTES + 8 * (sets * SET_WORDS + node_slots * NODE_WORDS + TOUCH_WORDS)
    fields = INDEX_FIELDS.pack(INDEX_MAGIC, FORMAT_VERSION, 0, journal_id, sets, node_slots, boot)
    fd = open_file(os.path.join(directory, NAME), os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(fd, 0, size)
        os.pwrite(fd, fields + RECORD_SUM.pack(xxhash.xxh3_64_intdigest(fields)), 0)
    except OSError as error:
        raise journal_error(error, f"cannot make the index of {size} bytes") from error
    finally:
        os.close(fd)


class Index:
    """A journal's index, mapped. Words are read and written whole, so they never tear."""

    __slots__ = (
        "_evict", "_map", "_nodes_at", "_touch_at", "_words", "boot", "journal_id", "node_slots",
        "sets",
    )  # fmt: skip

    def __init__(self, directory: str, *, write: bool = True, owner: bool = False) -> None:
        """Raises FileNotFoundError, or ValueError if the file is no index that fits its size."""
        flags = os.O_RDWR if write else os.O_RDONLY
        fd = open_file(os.path.join(directory, NAME), flags)
        try:
            size = os.fstat(fd).st_size
            if size < INDEX_HEADER_BYTES:
                raise ValueError("index file too short")
            self._map = map_file(fd, size, write=write, owner=owner)
        finally:
            os.close(fd)
        magic, version, _, self.journal_id, self.sets, self.node_slots, self.boot = (
            INDEX_FIELDS.unpack_from(self._map, 0)
        )
        (stored,) = RECORD_SUM.unpack_from(self._map, INDEX_FIELDS.size)
        intact = xxhash.xxh3_64_intdigest(self._map[: INDEX_FIELDS.size]) == stored
        self._nodes_at = _HEADER_WORDS + self.sets * SET_WORDS
        self._touch_at = self._nodes_at + self.node_slots * NODE_WORDS
        words = self._touch_at + TOUCH_WORDS
        if (
            magic != INDEX_MAGIC
            or not intact
            or version > FORMAT_VERSION
            or not (self.sets and self.node_slots)
            or words * 8 != len(self._map)
        ):
            self._map.close()
            raise ValueError("not an intact index file of this version")
        self._words = memoryview(self._map).cast("Q")
        self._evict = 0

    # -- executions --

    def _find(self, key: int) -> int:
        """Word index of the key's slot, or -1."""
        words = self._words
        at = _HEADER_WORDS + key % self.sets * SET_WORDS
        for slot in range(at, at + SET_WORDS, SLOT_WORDS):
            if words[slot] == key:
                return slot
        return -1

    def get(self, key: int) -> Slot | None:
        """The execution's slot, or None."""
        at = self._find(key)
        if at < 0:
            return None
        slot = Slot(*self._words[at + 1 : at + SLOT_WORDS])
        return slot if slot.claim <= _LAST_CLAIM else None  # no such claim is ever given

    def locate(self, key: int, reusable: int = 0) -> int:
        """The key's slot, made if missing; owner only. Keep it: slots do not move.

        A full set evicts the first slot whose newest record lies before position ``reusable``,
        else the next in turn.
        """
        at = self._find(key)
        if at >= 0:
            return at
        words = self._words
        base = _HEADER_WORDS + key % self.sets * SET_WORDS
        ways = range(base, base + SET_WORDS, SLOT_WORDS)
        victim = next((slot for slot in ways if not words[slot]), -1)
        if victim < 0:
            victim = next((slot for slot in ways if words[slot + _NEWEST] < reusable), -1)
        if victim < 0:
            self._evict = (self._evict + 1) % INDEX_WAYS
            victim = ways[self._evict]
        for word in range(SLOT_WORDS):
            words[victim + word] = 0
        words[victim] = key
        return victim

    def may_know(self, key: int) -> bool:
        """Whether the journal may have records of an execution: it has a slot, or may have lost it
        to another execution."""
        at = _HEADER_WORDS + key % self.sets * SET_WORDS
        ways = self._words[at : at + SET_WORDS : SLOT_WORDS]
        return key in ways or all(ways)

    def owns(self, at: int, key: int) -> bool:
        """Whether slot ``at`` still belongs to ``key``."""
        return bool(self._words[at] == key)

    def taken(self, at: int) -> int:
        """Not 0 if another process has taken slot ``at``'s execution over."""
        return int(self._words[at + _TAKEN])

    def seq(self, at: int) -> int:
        """Sequence number of the newest record of slot ``at``'s claim; 0 before its first one."""
        return int(self._words[at + _SEQ])

    def begin(self, at: int, claim: int) -> None:
        """Start a claim in slot ``at``, which counts again. What it knew is forgotten: a process of
        another state directory may have owned the execution since. Owner only."""
        words = self._words
        words[at + _STATE] = words[at + _NEWEST] = 0
        words[at + _SEQ] = 0
        words[at + _CLAIM] = claim
        words[at + _TAKEN] = 0

    def resume(self, at: int, claim: int, seq: int) -> None:
        """Put a displaced claim into slot ``at`` again; ``seq`` is the number of its newest record.
        The slot counts as taken: a process that took the execution over meanwhile had no
        slot of this claim to mark. Owner only."""
        words = self._words
        words[at + _TAKEN] = TAKEN_OVER
        words[at + _STATE] = words[at + _NEWEST] = 0
        words[at + _SEQ] = seq
        words[at + _CLAIM] = claim

    def put(self, at: int, position: int, seq: int, has_state: bool) -> None:
        """Point slot ``at`` to the record just appended; owner only."""
        words = self._words
        words[at + _NEWEST] = position
        if has_state:
            words[at + _STATE] = position
        words[at + _SEQ] = seq

    def forget(self, at: int) -> None:
        """Slot ``at``'s claim has been fenced: it no longer counts; owner only."""
        self._words[at + _TAKEN] = TAKEN_OVER
        self._words[at + _STATE] = self._words[at + _NEWEST] = 0

    def take(self, key: int) -> None:
        """Mark the execution as taken over by another journal's owner; any process."""
        at = self._find(key)
        if at >= 0:
            self._words[at + _TAKEN] = TAKEN_OVER

    def recover(self, header: RecordHeader, position: int) -> None:
        """Point to a record that the owner did not live to publish; only once it is dead, and
        followed by :meth:`forget_nodes`.

        A record that is not the newest of the slot's claim (a copy, or queued again under an older
        claim) is left out.
        """
        at = self._find(header.execution_hash)
        if at < 0 or self._words[at + _CLAIM] != header.claim:
            return
        if self._words[at + _SEQ] < header.seq:
            self.put(at, position, header.seq, bool(header.flags & Flag.STATE))

    def forget_nodes(self) -> None:
        """Remember no node: an entry may be older than a record that was not published."""
        words = self._words
        for node in range(self._nodes_at, self._touch_at, NODE_WORDS):
            if words[node]:
                words[node] = 0

    def slots(self) -> Iterator[tuple[int, Slot]]:
        """Key and entry of every slot in use."""
        words = self._words
        for at in range(_HEADER_WORDS, self._nodes_at, SLOT_WORDS):
            if words[at]:
                yield words[at], Slot(*words[at + 1 : at + SLOT_WORDS])

    # -- nodes --

    def put_node(self, key: int, position: int) -> None:
        """Remember where the node's newest record lies; may overwrite another node's entry."""
        at = self._nodes_at + key % self.node_slots * NODE_WORDS
        self._words[at] = 0
        self._words[at + 1] = position
        self._words[at] = key

    def get_node(self, key: int) -> int:
        """Position of the node's newest record, or 0 if it is not remembered."""
        at = self._nodes_at + key % self.node_slots * NODE_WORDS
        return int(self._words[at + 1]) if self._words[at] == key else 0

    def nodes(self) -> Iterator[tuple[int, int]]:
        """Key and position of every node that is remembered."""
        words = self._words
        for at in range(self._nodes_at, self._touch_at, NODE_WORDS):
            if words[at]:
                yield words[at], words[at + 1]

    # -- use --

    def touch(self, segment: int) -> None:
        """A reader has just used this segment; any process. A lost update only ages it."""
        self._words[self._touch_at + segment % TOUCH_WORDS] = time.monotonic_ns()

    def touched(self, segment: int) -> int:
        """CLOCK_MONOTONIC ns of the last read of this segment (or of one sharing its word)."""
        touched = int(self._words[self._touch_at + segment % TOUCH_WORDS])
        return min(touched, time.monotonic_ns())

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._words.release()
        self._map.close()
