"""The hot cache's index: where in a journal the newest state of an execution lies.

One file per journal, mapped by every process that reads; the owner of the journal is its only
writer, except for the ``TAKEN`` word of a slot, which whoever takes an execution over sets to its
own claim: from then on the slot is superseded, even if its owner (a zombie) goes on writing.

The index is a hint. A reader verifies the record that it finds, so a torn or stale slot costs a
fallback to the store and never a wrong byte. It never lies by omission either: a set that had to
evict a key is marked lossy, and a miss in a lossy set is no miss ("ask the store").
"""

from __future__ import annotations

import mmap
import os
import time
from typing import NamedTuple

from livingai.queue.layout import (
    FORMAT_VERSION,
    INDEX_FIELDS,
    INDEX_HEADER_BYTES,
    INDEX_MAGIC,
    INDEX_WAYS,
    NODE_WORDS,
    SET_WORDS,
    SLOT_WORDS,
    TOUCH_WORDS,
    SlotWord,
)
from livingai.queue.segment import journal_error

NAME = "index"
_HEADER_WORDS = INDEX_HEADER_BYTES // 8
_KEY, _STATE, _NEWEST, _CLAIM, _SEQ, _TAKEN = (int(word) for word in SlotWord)


class Slot(NamedTuple):
    """An execution's entry: positions of its newest record with a state (0: none) and of its
    newest record, claim and seq of the latter, and the claim that took it over (0: nobody)."""

    state: int
    newest: int
    claim: int
    seq: int
    taken: int

    @property
    def superseded(self) -> bool:
        """Whether a newer owner has taken the execution over."""
        return self.taken > self.claim


def create_index(directory: str, journal_id: int, sets: int, node_slots: int) -> None:
    """Make and preallocate an index file. Raises DiskFullError, JournalError."""
    size = INDEX_HEADER_BYTES + 8 * (sets * SET_WORDS + node_slots * NODE_WORDS + TOUCH_WORDS)
    fd = os.open(os.path.join(directory, NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
        header = INDEX_FIELDS.pack(INDEX_MAGIC, FORMAT_VERSION, 0, journal_id, sets, node_slots)
        os.pwrite(fd, header, 0)
    except OSError as error:
        raise journal_error(error, f"cannot make the index of {size} bytes") from error
    finally:
        os.close(fd)


class Index:
    """A journal's index, mapped. Words are read and written whole, so they never tear."""

    __slots__ = ("_evict", "_map", "_nodes_at", "_touch_at", "_words", "journal_id", "node_slots", "sets")

    def __init__(self, directory: str) -> None:
        """Raises FileNotFoundError, or ValueError if the file is no index that fits its size."""
        fd = os.open(os.path.join(directory, NAME), os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, 0)
        finally:
            os.close(fd)
        if len(self._map) < INDEX_HEADER_BYTES:
            raise ValueError("index file too short")
        magic, version, _, self.journal_id, self.sets, self.node_slots = INDEX_FIELDS.unpack_from(
            self._map, 0
        )
        self._nodes_at = _HEADER_WORDS + self.sets * SET_WORDS
        self._touch_at = self._nodes_at + self.node_slots * NODE_WORDS
        words = self._touch_at + TOUCH_WORDS
        if magic != INDEX_MAGIC or version > FORMAT_VERSION or words * 8 > len(self._map):
            raise ValueError("not an index file of this version")
        self._words = memoryview(self._map).cast("Q")
        self._evict = 0

    # -- executions --

    def _find(self, key: int) -> int:
        """Word index of the key's slot, or -1."""
        words = self._words
        at = _HEADER_WORDS + key % self.sets * SET_WORDS
        for slot in range(at, at + INDEX_WAYS * SLOT_WORDS, SLOT_WORDS):
            if words[slot] == key:
                return slot
        return -1

    def lossy(self, key: int) -> bool:
        """Whether a key of this key's set was ever evicted."""
        return bool(self._words[_HEADER_WORDS + key % self.sets * SET_WORDS + SET_WORDS - 1])

    def get(self, key: int) -> Slot | None:
        """The execution's slot, or None."""
        at = self._find(key)
        if at < 0:
            return None
        return Slot(*self._words[at + 1 : at + SLOT_WORDS])

    def locate(self, key: int, reusable: int = 0) -> int:
        """The key's slot, made if missing; owner only. Keep it: slots do not move.

        A full set evicts the first slot whose newest record lies before position ``reusable``,
        else the next in turn, and is lossy from then on.
        """
        at = self._find(key)
        if at >= 0:
            return at
        words = self._words
        base = _HEADER_WORDS + key % self.sets * SET_WORDS
        ways = range(base, base + INDEX_WAYS * SLOT_WORDS, SLOT_WORDS)
        victim = next((slot for slot in ways if not words[slot]), -1)
        if victim < 0:
            words[base + SET_WORDS - 1] = 1
            victim = next((slot for slot in ways if words[slot + _NEWEST] < reusable), -1)
        if victim < 0:
            self._evict = (self._evict + 1) % INDEX_WAYS
            victim = ways[self._evict]
        words[victim] = 0
        for word in range(1, SLOT_WORDS):
            words[victim + word] = 0
        words[victim] = key
        return victim

    def owns(self, at: int, key: int) -> bool:
        """Whether slot ``at`` still belongs to ``key``."""
        return bool(self._words[at] == key)

    def taken(self, at: int) -> int:
        """The claim that took slot ``at``'s execution over, or 0."""
        return int(self._words[at + _TAKEN])

    def begin(self, at: int, claim: int, *, keep_state: bool) -> None:
        """Start a claim in slot ``at``; without ``keep_state`` its older state is forgotten."""
        words = self._words
        if not keep_state:
            words[at + _STATE] = 0
        words[at + _SEQ] = 0
        words[at + _CLAIM] = claim

    def put(self, at: int, position: int, seq: int, has_state: bool) -> None:
        """Point slot ``at`` to the record just appended; owner only."""
        words = self._words
        words[at + _NEWEST] = position
        if has_state:
            words[at + _STATE] = position
        words[at + _SEQ] = seq

    def forget(self, at: int) -> None:
        """Drop the positions of slot ``at`` (its records were fenced); owner only."""
        self._words[at + _STATE] = self._words[at + _NEWEST] = 0

    def take(self, key: int, claim: int) -> None:
        """Mark the execution as taken over by ``claim``; any process."""
        at = self._find(key)
        if at >= 0 and self._words[at + _TAKEN] < claim:
            self._words[at + _TAKEN] = claim

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

    # -- use --

    def touch(self, segment: int) -> None:
        """A reader has just used this segment; any process. A lost update only ages it."""
        self._words[self._touch_at + segment % TOUCH_WORDS] = time.monotonic_ns()

    def touched(self, segment: int) -> int:
        """CLOCK_MONOTONIC ns of the last read of this segment (or of one sharing its word)."""
        return self._words[self._touch_at + segment % TOUCH_WORDS]

    def close(self) -> None:
        """Unmap. Idempotent."""
        self._words.release()
        self._map.close()
