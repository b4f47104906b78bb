"""What a store worker hears: every message once, whatever comes with it."""

from __future__ import annotations

import socket
import threading

from livingai.protocol.frames import frame
from livingai.workers.store.main import _incoming


def test_a_greeting_and_requests_in_one_piece_are_all_heard() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frame(1, {"codec": "a" * 9000}, 3) + frame(5, 1, "ready") + frame(5, 2, "x"))
        ours.shutdown(socket.SHUT_WR)
        incoming = _incoming(theirs)
        assert next(incoming)[0] == 1
        assert [message[1] for message in incoming] == [1, 2]


def test_a_large_request_comes_whole() -> None:
    ours, theirs = socket.socketpair()
    message = [5, 7, "commit", [b"\0\xff" * 3_000_000]]
    with ours, theirs:
        sender = threading.Thread(target=ours.sendall, args=(frame(*message),))
        sender.start()
        assert next(filter(None, _incoming(theirs))) == message
        sender.join()


def test_silence_is_an_empty_message_and_the_end_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        incoming = _incoming(theirs)
        assert next(incoming) == []
        ours.close()
        assert list(incoming) == []
