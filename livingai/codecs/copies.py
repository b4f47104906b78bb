"""What of a state is in its base, too: the search behind codec 0x03.

States grow by appending, and change in place. So the base is compared at the same place, by
strides, blocks and finally halves; where the two part for good, because something was inserted or
removed, a few samples of the state are searched in the rest of the base. Copies are exact to the
byte. It is not a general diff: what changed all over, moved far, or came from an earlier part of
the base is left to codec 0x04.

On 0.8 MB of chat: one message added 0.04 ms, inserted early 0.1 ms, all different 0.5 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

_BLOCK_BYTES: Final = 4096
#: So many bytes are compared as one number, which says where they differ.
_WORD_BYTES: Final = 256
_STRIDE_BYTES: Final = 65536
#: What must be equal at a block's start to look closer.
_PROBE_BYTES: Final = 64
#: A copy costs 12 bytes and ends a literal.
_MIN_COPY_BYTES: Final = 32
#: A copy found by search may be chance, such as a phrase that all messages share.
_MIN_FOUND_BYTES: Final = 256
#: How many differences to go past before giving up, and one more per so many bytes of state. Each
#: costs 10 to 25 µs; where there are more, zstd with the base as dictionary is as fast, and better.
_ROUNDS: Final = 64
_ROUND_BYTES: Final = 16384
#: How far behind a difference to compare in place before a search, and all blocks after it.
_STEP_OFFSETS: Final = (64, 512, 2048, 8192, 32768)
#: Where behind a difference to take the samples of a search. The first clears most insertions.
_SAMPLE_OFFSETS: Final = (2048, 256, 16384, 65536)
_SAMPLE_BYTES: Final = 32
#: Bytes that all searches may go through, per byte of base; at 0.13 ms per MB.
_SEARCH_BUDGET: Final = 4


class Copy(NamedTuple):
    """`length` bytes at `start` of the state that are the same at `source` of the base."""

    start: int
    source: int
    length: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The copies in the state's order, not overlapping; `complete` unless the search gave up."""

    copies: list[Copy]
    complete: bool

    @property
    def copied_bytes(self) -> int:
        """How much of the state the copies make up."""
        return sum(copy.length for copy in self.copies)


#: Where bytes are first found from an offset on, or -1: as :meth:`bytes.find`.
Find = Callable[[bytes, int], int]


def compare(state: bytes, base: bytes) -> Comparison:
    """Which parts of `state` are in `base`."""
    return compare_mapped(state, memoryview(base), base.find)


def compare_mapped(state: bytes, base: memoryview, find: Find) -> Comparison:
    """As :func:`compare`, where the base is part of a mapped file; `find` searches it."""
    matcher = _Matcher(state, base, find)
    return Comparison(matcher.copies, matcher.run())


class _Matcher:
    """One comparison of a state with its base."""

    def __init__(self, state: bytes, base: memoryview, find: Find) -> None:
        self.state = state
        self.base = base
        self.find = find
        #: The state's `p` is the base's `p + shift`; never negative, as both only move on.
        self.shift = 0
        self.budget = _SEARCH_BUDGET * len(base)
        self.copies: list[Copy] = []

    def run(self) -> bool:
        """Go from each difference to the next agreement; whether that reached the end."""
        position = 0
        for _ in range(_ROUNDS + len(self.state) // _ROUND_BYTES):
            length = self.equal_after(position, self.shift)
            if length >= _MIN_COPY_BYTES:
                self.add(position, self.shift, length)
                position += length
            agreement = self.next_agreement(position)
            if agreement is None:
                return True
            position = agreement
        return False

    def add(self, position: int, shift: int, length: int) -> None:
        """Record a copy, extended backwards over what no copy covers yet."""
        before = self.equal_before(position, shift)
        start = position - before
        self.copies.append(Copy(start, start + shift, before + length))

    def next_agreement(self, position: int) -> int | None:
        """Where state and base agree again after a difference at `position`; sets the shift."""
        found = self.step(position)
        if found is None:
            found = self.search(position)
        return self.next_block(position) if found is None else found

    def step(self, position: int) -> int | None:
        """The nearest of a few places behind `position` that is as in the base."""
        last = min(len(self.state), len(self.base) - self.shift) - _PROBE_BYTES
        for offset in _STEP_OFFSETS:
            start = position + offset
            if start <= last and self.same(start, self.shift, _PROBE_BYTES):
                return start
        return None

    def next_block(self, position: int) -> int | None:
        """The next block that begins as it does in the base."""
        first = (position // _BLOCK_BYTES + 1) * _BLOCK_BYTES
        last = min(len(self.state), len(self.base) - self.shift) - _PROBE_BYTES
        for start in range(first, last + 1, _BLOCK_BYTES):
            if self.same(start, self.shift, _PROBE_BYTES):
                return start
        return None

    def search(self, position: int) -> int | None:
        """Look for samples of what follows `position` in the base's rest; sets the shift."""
        origin = min(position + self.shift, len(self.base))
        for offset in _SAMPLE_OFFSETS:
            start = position + offset
            sample = self.state[start : start + _SAMPLE_BYTES]
            if len(sample) < _SAMPLE_BYTES or self.budget < len(self.base) - origin:
                continue
            source = self.find(sample, origin)
            self.budget -= (len(self.base) if source < 0 else source) - origin
            if source < 0:
                continue
            shift = source - start
            if self.equal_after(start, shift) >= _MIN_FOUND_BYTES:
                self.shift = shift
                return start
        return None

    def same(self, position: int, shift: int, length: int) -> bool:
        """Whether `length` bytes at `position` are equal."""
        source = position + shift
        # The one comparison of buffers that is a memcmp and copies nothing; memoryview's own
        # takes 1 ns per byte.
        return self.state.startswith(self.base[source : source + length], position)

    def equal_after(self, position: int, shift: int) -> int:
        """How many bytes from `position` on are equal."""
        limit = min(len(self.state) - position, len(self.base) - position - shift)
        if limit <= 0:
            return 0
        equal, unknown = 0, _STRIDE_BYTES
        while self.same(position + equal, shift, min(unknown, limit - equal)):
            equal += min(unknown, limit - equal)
            if equal == limit:
                return limit
        return equal + self.equal_start(position + equal, shift, min(unknown, limit - equal))

    def equal_start(self, position: int, shift: int, unknown: int) -> int:
        """How many bytes from `position` on are equal; one of `unknown` bytes is not."""
        equal = 0
        while unknown > _WORD_BYTES:
            half = unknown // 2
            if self.same(position + equal, shift, half):
                equal += half
                unknown -= half
            else:
                unknown = half
        different = self.difference(position + equal, shift, unknown)
        return equal + max(0, (different & -different).bit_length() - 1) // 8

    def equal_before(self, position: int, shift: int) -> int:
        """How many bytes before `position`, down to the last copy, are equal."""
        floor = self.copies[-1].start + self.copies[-1].length if self.copies else 0
        limit = min(position - floor, position + shift)
        equal, unknown = 0, _BLOCK_BYTES
        while equal < limit:
            unknown = min(unknown, limit - equal)
            if not self.same(position - equal - unknown, shift, unknown):
                break
            equal += unknown
        else:
            return max(equal, 0)
        while unknown > _WORD_BYTES:
            half = unknown // 2
            if self.same(position - equal - half, shift, half):
                equal += half
                unknown -= half
            else:
                unknown = half
        different = self.difference(position - equal - unknown, shift, unknown)
        return equal + unknown - (different.bit_length() + 7) // 8

    def difference(self, position: int, shift: int, length: int) -> int:
        """`length` bytes of both as little-endian numbers, XORed: not 0 where they differ."""
        source = position + shift
        ours = int.from_bytes(self.state[position : position + length], "little")
        return ours ^ int.from_bytes(self.base[source : source + length], "little")
