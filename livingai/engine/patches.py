"""Patches of large states: what an agent writes of a state that resembles the one before.

Rules:

1. A patch is made against the *base*: the last state of the claim that was written whole and is
   large enough. It is compared with the base's bytes in the mapped journal, so this costs no
   memory per execution. (A page that the kernel has dropped and cannot read again reads as zeros,
   see :mod:`livingai.queue.mapping`; the base's hash then does not fit.)
2. What is known of the base changes only after a record was accepted, with the handle's lock held,
   and is forgotten when anything goes wrong: an exception in the middle of an append, a new claim,
   a displaced slot, an outcome that says that the base is not stored. (A forked child has a handle
   of its own, and knows nothing.) Then the next state is written whole.
3. A whole state is written, too, when the patches since the last one have so many bytes together
   that the next ones would cost more than they save (:data:`_SPENT_SHARE`), after
   :data:`MOST_PATCHES` of them, and when a patch would be a large part of the state.
4. States that have little in common with those before are compared less and less often.
"""

from __future__ import annotations

from typing import Final

from livingai import codecs
from livingai.failpoint import failpoint
from livingai.queue.layout import segment_of
from livingai.queue.patch import Base, Patch, make_patch
from livingai.queue.segments import Segments

#: Patches on one base: each holds all that has changed since.
MOST_PATCHES: Final = 12
#: The bytes of all patches on a base are at most this share of its own, and those of one are at
#: most that share of its state.
_SPENT_SHARE: Final = 2
_LARGEST_SHARE: Final = 4
#: After so many comparisons in a row that were of no use, 2 to that many states are written whole.
_MOST_MISSES: Final = 5


class Lineage:
    """What an owner knows of the states of one claim: the base, and how patches on it went."""

    __slots__ = ("_misses", "_patches", "_skip", "_spent", "base")

    def __init__(self) -> None:
        self.base: Base | None = None
        self._patches = 0
        self._spent = 0
        self._misses = 0
        #: So many states are written whole without a look.
        self._skip = 0

    def patch(self, state: bytes, own: Segments) -> Patch | None:
        """A patch that makes ``state`` of the base, in the own journal; None: write it whole."""
        base = self.base
        if base is None:
            return None
        if self._skip:
            self._skip -= 1
            return None
        if self._patches >= MOST_PATCHES or self._spent * _SPENT_SHARE > base.nbytes:
            return None
        try:
            failpoint("patch.before_base")
            segment = own.get(segment_of(base.at))
        except OSError:  # out of descriptors
            segment = None
        if segment is None:
            return None
        patch, copied = make_patch(state, segment, base, most=len(state) // _LARGEST_SHARE)
        if copied * 2 < len(state):
            self._misses = min(self._misses + 1, _MOST_MISSES)
            self._skip = (1 << self._misses) - 1
        else:
            self._misses = 0
        return patch

    def patched(self, patch: Patch) -> None:
        """A patch was accepted."""
        self._patches += 1
        self._spent += len(patch.section)

    def wrote(self, state: bytes, at: int, seq: int, reliance: int) -> None:
        """A whole state was accepted, as number ``seq`` of the claim, at this position."""
        self.base = Base(at, seq, codecs.content_hash(state), len(state), reliance)
        self._patches = self._spent = 0
