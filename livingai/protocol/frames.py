"""Messages between agents and the service, and between the dispatcher and its workers.

A frame is a 32-bit little-endian length and a msgpack list whose first item is a
:class:`Message`. Every message is small except a response that carries a state.

==============  ==========================================  =====================================
message         from agent                                  from service
==============  ==========================================  =====================================
HELLO           version, store url, pid, revision           version, pid, version of livingai,
                                                            revision
ATTACH          journal id (hex)                            -
WAKE            -                                           -
OUTCOMES        -                                           packed (lsn, word) pairs, reasons,
                                                            lost: (first lsn, last lsn, reason)
REQUEST         request id, verb, arguments                 -
RESPONSE        -                                           request id, ok, value or error
GOODBYE         -                                           error
TROUBLE         -                                           why the store takes no writes, or ""
==============  ==========================================  =====================================

*revision* says what the sender can read beyond the first form of this version; who says nothing has
revision 0. A service reads all that agents of earlier revisions say and write; what happens if the
service is the earlier one is in :mod:`livingai.engine.versions`. Errors are those of
:mod:`livingai.protocol.error_parts`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import msgpack

PROTOCOL_VERSION = 1
#: 1: errors come with their families. 2: a writer encodes states. 3: records may be patches. 4: the
#: service says its revision, too. 5: a writer says how many bytes it has stored.
REVISION = 5
LENGTH = struct.Struct("<I")
#: (lsn, outcome word) pairs of an OUTCOMES message.
OUTCOME_PAIR = struct.Struct("<QQ")
#: No frame is larger: a state of 2 GiB and its node.
MAX_FRAME_BYTES = (1 << 31) + (1 << 24)
_SMALL_BYTES = 4096


class Message(IntEnum):
    """Kinds of messages; see the table above."""

    HELLO = 1
    ATTACH = 2
    WAKE = 3
    OUTCOMES = 4
    REQUEST = 5
    RESPONSE = 6
    GOODBYE = 7
    TROUBLE = 8


def frame(*parts: Any) -> bytes:
    """A message as bytes for the socket."""
    body: bytes = msgpack.packb(parts, use_bin_type=True, unicode_errors="surrogatepass")
    return LENGTH.pack(len(body)) + body


def parse(body: bytes | memoryview) -> list[Any]:
    """A message from a frame's body. Raises ValueError if it is none."""
    try:
        message = msgpack.unpackb(
            body,
            raw=False,
            unicode_errors="surrogatepass",
            strict_map_key=False,
            max_bin_len=len(body),
            max_str_len=len(body),
        )
    except (TypeError, ArithmeticError, RecursionError) as error:  # a list as a key, an odd time
        raise ValueError(f"no msgpack value of ours: {error}") from error
    if not isinstance(message, list) or not message:
        raise ValueError("a message is a list")
    return message


WAKE_FRAME = frame(Message.WAKE)


class FrameBuffer:
    """Bytes from a socket, cut into messages of at most ``max_bytes``."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def _is_one(self, data: bytes) -> bool:
        """Whether ``data`` is one frame, and a small one, of which a copy costs nothing."""
        length = len(data) - LENGTH.size
        small = 0 <= length <= min(_SMALL_BYTES, self._max_bytes)
        return small and LENGTH.unpack_from(data)[0] == length

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """The messages that ``data`` completes. Raises ValueError for a hopeless stream."""
        buffer = self._buffer
        if not buffer and self._is_one(data):  # as almost always
            yield parse(data[LENGTH.size :])
            return
        buffer += data
        at = 0
        while len(buffer) - at >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer, at)
            if length > self._max_bytes:
                raise ValueError(f"a frame of {length} bytes")
            end = at + LENGTH.size + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as whole, whole[at + LENGTH.size : end] as body:
                message = parse(body)
            yield message
            at = end
        del buffer[:at]


def revision_of(more: list[Any]) -> int:
    """The revision of who has greeted; ``more``: what the greeting has from that place on."""
    return more[0] if more and type(more[0]) is int and more[0] > 0 else 0
