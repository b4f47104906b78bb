"""Ranges of a Redis store's nodes by their ids: the index of ids is a part of the sorted set
``places``, and an earlier livingai, which may go on writing, does not keep it.

A range misses no node: where the index lacks some, the script says so. It is then completed, which
takes one pass over the ids; later ranges are quick again. Where that is of no use (another service
keeps writing without it, or this user may not write) all nodes are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from livingai.errors import StoreError
from livingai.node import NodeField
from livingai.stores.base import NodeRange, StoredCheckpoint
from livingai.stores.checked import newest_checkpoint
from livingai.stores.ranges import Version
from livingai.stores.redis.keys import Keys, as_bytes, parse_version, sortable, version
from livingai.stores.redis.link import Command, Link, Script
from livingai.stores.redis.reads import PAGE_BYTES, RedisReads, item
from livingai.stores.redis.rows import (
    evicted,
    parsing,
    read_blob,
    read_checkpoint,
    read_wire,
)

#: What the places of the index begin with; the first text behind all of them.
_KIND: Final = b"i:"
_BEHIND: Final = b"(j"
#: Nodes whose entries are added by one script.
_PART: Final = 1000
#: So often the index is completed for one question.
_TRIES: Final = 2
#: Above each version that a store can have, and not too long to be compared as text.
_HIGHEST: Final = 1 << 63


class RedisRanges:
    """Ranges of nodes on a connection; ``reads`` asks the scripts about one execution."""

    def __init__(self, link: Callable[[], Link], keys: Keys, reads: RedisReads) -> None:
        self._link = link
        self._keys = keys
        self._reads = reads
        self._keep = Script("keep")

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range, each with the newest state that it was saved with."""
        for _ in range(_TRIES):
            found = self._by_index(execution_id, asked)
            if found is not None:
                return found
            if not self._complete(execution_id):
                break
        found = self._by_index(execution_id, asked)
        return self._by_all(execution_id, asked) if found is None else found

    def _by_index(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint] | None:
        """The answer, page by page; None: the index is not complete."""
        upto = _bound(asked.upto)
        if asked.upto is not None and not upto:
            return []
        window = (_bound(asked.after), upto)
        low = b"[" + _KIND + as_bytes(asked.first)
        high = _BEHIND if asked.behind is None else b"(" + _KIND + as_bytes(asked.behind)
        found: list[StoredCheckpoint] = []
        while True:
            last, *rows = self._reads.ask(
                execution_id, "between", low, high, asked.limit - len(found), PAGE_BYTES,
                int(asked.backwards), int(asked.states), *window,
            )  # fmt: skip
            if last is None:
                if rows == [b"evicted"]:
                    raise evicted(execution_id)
                return None
            for name, *row in rows:
                found.append(_found(execution_id, name, row))
            if not last or len(found) >= asked.limit:
                return found
            if asked.backwards:
                high = b"(" + last
            else:
                low = b"(" + last

    def _complete(self, execution_id: str) -> bool:
        """Complete the index; False: that cannot be done."""
        keys = self._keys.of(execution_id)
        after = b""
        while True:
            words = [len(keys), *keys, "index", after, _PART]
            try:
                after = self._link().one(Command(keys.run, words, self._keep))
            except StoreError:  # a user who may only read, perhaps: the next reads tell
                return False
            if not after:
                return True

    def _by_all(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The answer from all nodes."""
        ids = [
            str(node.wire[NodeField.ID])
            for node in self._reads.nodes(execution_id)
            if asked.has(str(node.wire[NodeField.ID]), node.first)
        ]
        ids.sort(reverse=asked.backwards)
        found = []
        for node_id in ids[: asked.limit]:
            name = as_bytes(node_id)
            row = self._reads.ask(execution_id, "node", name)
            if row is not None:  # removed meanwhile
                found.append(_found(execution_id, name, row if asked.states else row[:2]))
        return found


def _found(execution_id: str, name: bytes, row: list[Any]) -> StoredCheckpoint:
    """A node from head, wire and, where it has a state, its checkpoint and blob."""
    with parsing(execution_id):
        node_id = name.decode()
        newest, first, *_ = item(row, 0).split()
        wire = read_wire(execution_id, item(row, 1), node_id)
        at = parse_version(newest)
        since = parse_version(first)
        if len(row) <= 2:
            return StoredCheckpoint(wire, *at, None, 0, node_id, first=since)
        checkpoint = read_checkpoint(execution_id, row[2])
        blob = read_blob(execution_id, checkpoint, item(row, 3))
        kind, size = checkpoint.state_kind, checkpoint.raw_bytes
        state = newest_checkpoint(execution_id, wire, at, blob, kind, size)
        return StoredCheckpoint(
            wire, *at, blob, state.state_kind, node_id, checkpoint.base_hash,
            checkpoint.content_hash, state.raw_bytes, checkpoint.stored_bytes, first=since,
        )  # fmt: skip


def _bound(of: Version | None) -> str:
    """A bound of versions as text that sorts among them; "" is below all of them."""
    if of is None or of[0] < 0:
        return ""
    epoch, seq = (min(number, _HIGHEST) for number in of)
    return sortable(epoch) if seq < 0 else version(epoch, seq)
