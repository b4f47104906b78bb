"""A stored checkpoint as the bytes of its state, in bounded memory.

Rules:

1. A row says how large its state is (``raw_bytes``), and the reader says how large one may be.
   Decoding stops at the smaller of the two; a row that says more is refused undecoded. Both hold
   for each base of a delta, too.
2. A chain of deltas that is longer than any writer makes, or that runs in a circle, is damage.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from livingai import codecs
from livingai.errors import CorruptBlobError, MissingBaseError, StateTooLargeError
from livingai.stores.base import SizedBlob, Store

#: Deltas on each other. Fewer are written (``workers/dispatcher/delta_bases.py``); a copy of rows
#: from elsewhere may have more.
MAX_DEPTH: Final = 128


class StateDecoder:
    """Decodes the checkpoints of one execution to states of at most ``max_bytes`` bytes.

    ``remembered`` states, the last ones decoded, are kept, and more as long as all of them have no
    more than ``remembered_bytes``: in the order of an execution's checkpoints almost every delta's
    base is one of them, where none of many that were stored together is its base.
    """

    def __init__(
        self, store: Store, execution_id: str, *, max_bytes: int, remembered: int = 0,
        remembered_bytes: int = 0,
    ) -> None:  # fmt: skip
        self._store = store
        self._execution_id = execution_id
        self._max_bytes = max_bytes
        self._remembered = remembered
        self._remembered_bytes = remembered_bytes
        self._bytes = 0
        self._states: OrderedDict[bytes, bytes] = OrderedDict()

    def decode(self, found: SizedBlob, expected_hash: bytes | None = None) -> bytes:
        """The state of ``found``; what its bases hold is fetched from the store.

        Raises:
            StateTooLargeError: it has more than ``max_bytes`` bytes, by what its row says.
            CorruptBlobError: it does not decode, or to more bytes than its row says.
            MissingBaseError: it is a delta and its base is not there.
        """
        return self._decode(found, expected_hash, 0)

    def decode_next(self, found: SizedBlob, expected_hash: bytes | None) -> bytes:
        """As :meth:`decode`; the state is remembered, as the next one's base."""
        state = self._decode(found, expected_hash, 0)
        self._remember(state)
        return state

    def verify(self, found: SizedBlob, expected_hash: bytes | None) -> None:
        """Decode a state and remember it; raises as :meth:`decode`."""
        self._remember(self._decode(found, expected_hash, 0))

    def hash_of(self, found: SizedBlob) -> bytes:
        """16 bytes that are the same for equal states only.

        A state that is too large to be decoded here, or that cannot be decoded at all, is
        represented by its blob: two such are the same if they were written as the same bytes.
        """
        try:
            state = self._decode(found, None, 0)
        except (CorruptBlobError, StateTooLargeError):
            return codecs.content_hash(b"\xff" + found.blob)
        return self._remember(state)

    def _remember(self, state: bytes) -> bytes:
        content = codecs.content_hash(state)
        before = self._states.pop(content, b"")
        self._states[content] = state
        self._bytes += len(state) - len(before)
        while len(self._states) > self._remembered and self._bytes > self._remembered_bytes:
            self._bytes -= len(self._states.popitem(last=False)[1])
        return content

    def _decode(self, found: SizedBlob, expected_hash: bytes | None, depth: int) -> bytes:
        self._check(found, depth)

        def base(content_hash: bytes) -> bytes:
            known = self._states.get(content_hash)
            if known is not None:
                return known
            stored = self._store.sized_blob(self._execution_id, content_hash)
            if stored is None:
                raise MissingBaseError(
                    f"{self._execution_id}: a delta's base {content_hash.hex()} is not in the store"
                )
            return self._decode(stored, content_hash, depth + 1)

        return codecs.decode(
            found.blob,
            fetch_base=base,
            # A store that an application brings says 0 if it does not know.
            max_bytes=found.raw_bytes or self._max_bytes,
            expected_hash=expected_hash,
        )

    def _check(self, found: SizedBlob, depth: int) -> None:
        if type(found.raw_bytes) is not int or found.raw_bytes < 0:
            raise CorruptBlobError(
                f"a checkpoint of execution {self._execution_id} says that its state has "
                f"{found.raw_bytes!r} bytes; its row is damaged"
            )
        if found.raw_bytes > self._max_bytes:
            raise StateTooLargeError(
                f"a state of execution {self._execution_id} has {found.raw_bytes} bytes by its "
                f"row, more than max_state_bytes={self._max_bytes}; raise the limit to read it"
            )
        if depth > MAX_DEPTH:
            raise CorruptBlobError(
                f"a checkpoint of execution {self._execution_id} is built on more than {MAX_DEPTH} "
                "deltas; its rows are damaged"
            )
