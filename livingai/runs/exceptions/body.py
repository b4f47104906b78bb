"""Bodies of HTTP responses that exceptions hold, looked at without reading them.

``urllib.error.HTTPError`` is a response whose body the program reads, or does not. So recording
must not read it: that could wait, and would take the body away.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Any, Final

_MOST_BYTES: Final = 64 * 1024
#: Longest wait for a body, in seconds: a server sends the body of an error right after its headers.
_WAIT_S: Final = 0.2


def fits(body: Any) -> bool:
    """Whether a body is small enough to be recorded."""
    return type(body) is bytes and len(body) <= _MOST_BYTES


def body_of(file: Any) -> bytes | None:
    """The unread bytes of a file in memory, or of a response that was received completely; None if
    they cannot be seen. The position in the file is not changed."""
    if hasattr(file, "getvalue"):
        rest = file.getvalue()[file.tell() :]
        return bytes(rest) if len(rest) <= _MOST_BYTES else None
    length = getattr(file, "length", None)
    reader = getattr(file, "fp", None)
    if getattr(file, "chunked", True) or type(length) is not int or not 0 <= length <= _MOST_BYTES:
        return None
    if length == 0 or reader is None:
        return b""
    return _arrived(reader, reader.raw._sock, length)


def _arrived(reader: Any, connection: socket.socket, length: int) -> bytes | None:
    """The next ``length`` bytes of a buffered reader over a socket, if they arrive in time."""
    deadline = time.monotonic() + _WAIT_S
    timeout = connection.gettimeout()
    try:
        connection.setblocking(False)
        while True:
            held = bytes(reader.peek())  # reads once, if nothing is in the buffer
            if held and len(held) < length and type(connection) is socket.socket:
                with contextlib.suppress(BlockingIOError):
                    held += connection.recv(length - len(held), socket.MSG_PEEK)
            if len(held) >= length:
                return held[:length]
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if held:  # what is in the kernel keeps the socket readable; look again a little later
                left_s = min(left_s, 0.01)
                time.sleep(left_s)
            else:
                select.select([connection], [], [], left_s)
    finally:
        connection.settimeout(timeout)
