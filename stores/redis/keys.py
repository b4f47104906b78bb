"""Names of keys, and numbers as text that sorts. ``docs/STORES.md`` has the table.

All executions are spread over :data:`BUCKETS` buckets. The keys of a bucket share a hash tag, hence
a slot of a cluster, and the tags are chosen so that the buckets are spread evenly over the slots.
So an execution *and its entries in the indexes* are in one slot: one script changes them together,
and no index can ever disagree with the executions, whatever crashes. A question that concerns all
executions is asked of each bucket.
"""

from __future__ import annotations

import binascii
import itertools
from functools import lru_cache
from typing import Final, NamedTuple

import xxhash

#: Part of the format: changing it would move executions.
BUCKETS: Final = 64
_SLOTS: Final = 16384
#: Epochs are counted in scripts, whose numbers are doubles; larger ones would not be exact.
MAX_EPOCH: Final = 1 << 53


class ExecutionKeys(NamedTuple):
    """The keys of one execution, in the order in which scripts take them."""

    run: bytes
    owners: bytes
    places: bytes
    ids: bytes
    nodes: bytes


class Keys:
    """The keys of all executions that are stored under ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self.schema = f"{prefix}:schema".encode()
        #: Hash of notes about the store itself.
        self.marks = f"{prefix}:marks".encode()
        self._tags = _tags(prefix)
        #: By bucket: sorted set of execution ids; hash from node id to executions.
        self.ids = [tag + b"ids" for tag in self._tags]
        self.nodes = [tag + b"nodes" for tag in self._tags]

    def of(self, execution_id: str) -> ExecutionKeys:
        """The keys of an execution."""
        name = as_bytes(execution_id)
        bucket = self._bucket(name)
        tag = self._tags[bucket]
        return ExecutionKeys(
            b"%srun:%s" % (tag, name),
            b"%sowners:%s" % (tag, name),
            b"%splaces:%s" % (tag, name),
            self.ids[bucket],
            self.nodes[bucket],
        )

    def blob_prefix(self, execution_id: str) -> bytes:
        """What the keys of an execution's blobs begin with; seq (sortable), ``:`` and claim follow.

        The length of the id keeps names apart, as ids may hold anything.
        """
        name = as_bytes(execution_id)
        return b"%sblob:%d:%s:" % (self._tags[self._bucket(name)], len(name), name)

    def blob(self, execution_id: str, claim: str, seq: int) -> bytes:
        """The key of a blob; named by what identifies a write before it has an epoch."""
        return self.blob_prefix(execution_id) + sortable(seq).encode() + b":" + as_bytes(claim)

    @staticmethod
    def barrier(key: bytes) -> bytes:
        """A key in the slot of ``key`` that can be written at any time."""
        return key[: key.index(b"}") + 1] + b":barrier"

    @staticmethod
    def _bucket(name: bytes) -> int:
        return xxhash.xxh3_64_intdigest(name) % BUCKETS


@lru_cache(maxsize=64)
def _tags(prefix: str) -> list[bytes]:
    """``{prefix:n}:`` for each bucket; bucket b gets the first n whose slot is in its share."""
    found: dict[int, bytes] = {}
    for number in itertools.count():
        name = f"{prefix}:{number}".encode()
        slot = binascii.crc_hqx(name, 0) % _SLOTS  # CRC16 (XMODEM), as the cluster specifies
        found.setdefault(slot * BUCKETS // _SLOTS, b"{%s}:" % name)
        if len(found) == BUCKETS:
            return [found[bucket] for bucket in range(BUCKETS)]
    raise AssertionError("unreachable")


def entry(execution_id: str) -> bytes:
    """An execution's entry in the index of nodes, which holds several one after the other."""
    name = as_bytes(execution_id)
    return sortable(len(name)).encode() + name


def entries(text: bytes) -> list[str]:
    """The execution ids in an index entry."""
    found = []
    at = 0
    while at < len(text):
        digits = text[at] - 96
        end = at + 1 + digits + int(text[at + 1 : at + 1 + digits])
        found.append(text[at + 1 + digits : end].decode())
        at = end
    return found


def as_bytes(text: str) -> bytes:
    """Any text as bytes; one with a lone surrogate raises nothing, and finds nothing."""
    return text.encode("utf-8", "surrogatepass")


def sortable(number: int) -> str:
    """A number from 0 on as text that sorts as numbers do: its digits behind a letter that counts
    them, as in ``a1``, ``b42``."""
    digits = str(number)
    return chr(96 + len(digits)) + digits


def version(epoch: int, seq: int) -> str:
    """(epoch, seq) as text that sorts."""
    return sortable(epoch) + sortable(seq)


def parse_version(text: bytes) -> tuple[int, int]:
    """Inverse of :func:`version`; raises ValueError."""
    middle = 1 + text[0] - 96
    return int(text[1:middle]), int(text[middle + 1 :])
