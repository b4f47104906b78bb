"""Delta bases: which earlier checkpoint a new one may be encoded against.

Rules:

1. A base is a state of the same claim in the same journal that is written for itself, so it is in
   the store before the delta. A state whose caller asked for no history may be left out because a
   newer one overtakes it; it is a base only once it was sent, and from then on it is *firm*: never
   left out, even if the batch that it was part of has to be written again.
2. The first state of a claim has no base and is firm, so the ones behind it have a base while it
   still waits.
3. A full snapshot comes at least every :func:`longest_chain` checkpoints, which bounds what a read
   has to decode. Where deltas are small, snapshots are most of what is stored, and of the work.
4. A state that patches of its agent may build on is firm. A patch goes to the store as it is.
5. A base may turn out to be missing all the same (refused by the store, pruned, deleted): the store
   says so and the record is encoded again without one, before anything behind it is written.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from livingai.queue.layout import Flag
from livingai.workers.dispatcher.feed import Feed, Item

#: Deltas in a row before a full snapshot: so many in any case, and while they are encoded quickly
#: (they copy much) up to so many, as long as the states that a read then passes through do not have
#: more bytes than this together. From SQLite, 48 small ones at 0.8 MB are read in 8 ms. Of a server
#: each is a question, so there are fewer.
MIN_CHAIN: Final = 16
MAX_CHAIN: Final = 48
_CHAIN_BYTES: Final = 50_331_648
#: Executions whose base is remembered.
_MAX_EXECUTIONS: Final = 50_000


class _Base(NamedTuple):
    """A state that the next one of its claim may be encoded against."""

    feed: Feed
    claim: int
    seq: int
    at: int
    chain: int
    slow: bool
    #: Number, and deltas before it, of the newest state that patches may build on; 0: not known.
    whole_seq: int
    whole_chain: int


class Bases:
    """Remembers the newest firm state of each execution; see the rules above."""

    def __init__(self, longest: int = MAX_CHAIN) -> None:
        """``longest``: the most deltas in a row."""
        self._longest = longest
        self._bases: dict[int, _Base] = {}

    def choose(self, item: Item) -> None:
        """Set the record's base, if there is one for it."""
        header = item.header
        if header.flags & Flag.WHOLE:
            return
        base = self._bases.get(header.execution_hash)
        if (
            base is not None
            and _same_claim(base, item)
            and base.chain < min(self._longest, longest_chain(item.raw_bytes(), slow=base.slow))
        ):
            item.base_at = base.at
            item.chain = base.chain + 1
            item.slow = base.slow
            if header.flags & Flag.LATEST_ONLY and not header.flags & Flag.BASE:
                return
        item.firm = True
        self._remember(item)

    def choose_patch(self, item: Item) -> None:
        """The record is a patch: the base is chosen."""
        header = item.header
        item.patch = True
        base = self._bases.get(header.execution_hash)
        if base is None or not _same_claim(base, item):  # from before a restart: not known
            base = None
        known = base is not None and base.whole_seq == header.seq - header.base_back
        item.chain = base.whole_chain + 1 if base is not None and known else self._longest
        if not header.flags & Flag.LATEST_ONLY:
            item.firm = True
            self._remember(item)

    def sent(self, item: Item) -> None:
        """The record is part of a batch: it is firm, and the next state's base unless a later claim
        or state is that already."""
        item.firm = True
        encoded = item.by_writer or item.patch or item.encoded is not None
        if not encoded or item.header.flags & Flag.WHOLE:
            return
        base = self._bases.get(item.header.execution_hash)
        if base is None or (_same_claim(base, item) and base.seq < item.header.seq):
            self._remember(item)

    def whole(self, item: Item) -> None:
        """The record's base is not in the store: it is encoded as a whole, and may be a base."""
        base = self._bases.get(item.header.execution_hash)
        if base is not None and base.feed is item.feed and base.at == item.base_at:
            del self._bases[item.header.execution_hash]
        item.base_at = item.chain = 0
        self.sent(item)
        item.encoded = None
        item.by_writer = item.patch = False

    def note_slow(self, item: Item, *, slow: bool) -> None:
        """Whether the record's encoding takes long, as it was seen now: what follows is probably
        like it."""
        item.slow = slow
        base = self._bases.get(item.header.execution_hash)
        if base is not None and _same_claim(base, item):
            self._bases[item.header.execution_hash] = base._replace(slow=slow)

    def forget(self, item: Item) -> None:
        """The record will not be in the store: nothing may build on it."""
        base = self._bases.get(item.header.execution_hash)
        if base is not None and base.feed is item.feed and base.at == item.at:
            del self._bases[item.header.execution_hash]

    def _remember(self, item: Item) -> None:
        header = item.header
        before = self._bases.pop(header.execution_hash, None)  # the oldest goes first
        whole_seq, whole_chain = 0, 0
        if header.flags & Flag.BASE:
            whole_seq, whole_chain = header.seq, item.chain
        elif before is not None and _same_claim(before, item):
            whole_seq, whole_chain = before.whole_seq, before.whole_chain
        if len(self._bases) >= _MAX_EXECUTIONS:
            del self._bases[next(iter(self._bases))]
        self._bases[header.execution_hash] = _Base(
            item.feed, header.claim, header.seq, item.at, item.chain, item.slow, whole_seq,
            whole_chain,
        )  # fmt: skip


def longest_chain(state_bytes: int, *, slow: bool) -> int:
    """How many deltas may lie between a state of so many bytes and its snapshot. ``slow``: it is
    not encoded quickly (:mod:`livingai.workers.encoding`)."""
    if slow:
        return MIN_CHAIN
    return max(MIN_CHAIN, min(MAX_CHAIN, _CHAIN_BYTES // max(1, state_bytes)))


def _same_claim(base: _Base, item: Item) -> bool:
    return base.feed is item.feed and base.claim == item.header.claim
