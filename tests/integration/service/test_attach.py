"""The service's socket: outcomes go to the process that owns the journal, and malformed messages
harm only the connection that sent them."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from livingai import ExecutionNode
from livingai.errors import NotTheOwnerError, ServiceError
from livingai.protocol.frames import PROTOCOL_VERSION, FrameBuffer, Message, frame
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.lock import OwnerLock, owner_pid
from tests.support import acts
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import until


class Line:
    """A bare connection to the service."""

    def __init__(self, place: Place) -> None:
        self.sock = place.directory.connect(10.0)
        self._buffer = FrameBuffer()
        self._url = place.store().url
        self._come = self._read()

    def greet(self) -> None:
        self.sock.sendall(frame(Message.HELLO, PROTOCOL_VERSION, self._url, os.getpid()))
        self.expect(Message.HELLO)
        self.expect(Message.TROUBLE)

    def messages(self) -> Iterator[list[Any]]:
        """What comes, until the service hangs up."""
        return self._come

    def _read(self) -> Iterator[list[Any]]:
        while data := self.sock.recv(1 << 16):
            yield from self._buffer.feed(data)

    def expect(self, kind: Message) -> list[Any]:
        message = next(self.messages())
        assert message[0] == kind, message
        return message


@contextmanager
def line(place: Place) -> Iterator[Line]:
    made = Line(place)
    with closing(made.sock):
        yield made


def test_a_journal_is_attached_by_its_owner_alone(served: Place) -> None:
    agent = served.agent()
    agent.call(acts.save, served.run, 0)
    agent.settled(1)
    (journal,) = {os.path.basename(path) for path in served.journals()}
    assert owner_pid(f"{served.directory.journals}/{journal}/{OWNER_LOCK}") == agent.pid
    dispatcher = served.pids()["dispatcher"]
    with line(served) as other:
        other.greet()
        other.sock.sendall(frame(Message.ATTACH, journal))
        (name, text) = other.expect(Message.GOODBYE)[1]
        assert name == NotTheOwnerError.__name__
        assert f"belongs to process {agent.pid}," in text
        assert list(other.messages()) == [], "it is still connected"
    agent.call(acts.save_many, served.run, 20)
    assert agent.settled(21)
    assert served.pids()["dispatcher"] == dispatcher
    with open(served.directory.log, encoding="utf-8") as log:
        assert f"process {os.getpid()} was refused a journal" in log.read()


@pytest.mark.parametrize(
    "journal",
    ["", "00", "0" * 16, "f" * 16, "../../..", "a/b", "\0", 7, None, [[]], {"a": 1}, b"x"],
)
def test_an_invalid_journal_id_is_refused(served: Place, journal: object) -> None:
    with line(served) as other:
        other.greet()
        other.sock.sendall(frame(Message.ATTACH, journal))
        assert other.expect(Message.GOODBYE)[1][0] == NotTheOwnerError.__name__


def test_the_owners_own_second_connection_takes_over(served: Place) -> None:
    with served.engine() as engine:
        engine.save_sync(ExecutionNode(served.run), b"1").result(patience(60))
        handle = engine.open_handle()
        journal = f"{handle.open_journal().id:016x}"
        with line(served) as newer:
            newer.greet()
            newer.sock.sendall(frame(Message.ATTACH, journal))
            newer.expect(Message.HELLO)
            newer.expect(Message.TROUBLE)
            receipt = engine.save_sync(ExecutionNode(served.run), b"2")
            assert newer.expect(Message.OUTCOMES)[1]
            assert not receipt.done()
            handle.connection._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            assert receipt.result(patience(60)).status in ("met", "late")  # it connects again
        outcome = engine.save_sync(ExecutionNode(served.run), b"3").result(patience(60))
        assert outcome.status in ("met", "late")


def test_a_dead_owners_journal_cannot_be_attached(served: Place) -> None:
    path = f"{served.directory.journals}/{'e' * 16}"
    os.mkdir(path)
    lock = OwnerLock.acquire(f"{path}/{OWNER_LOCK}")
    assert lock is not None
    with line(served) as owner:
        owner.greet()
        owner.sock.sendall(frame(Message.ATTACH, "e" * 16))
        owner.expect(Message.HELLO)
    lock.release()
    until(lambda: not os.path.exists(path) or _attach_fails(served, "e" * 16), what="a refusal")


def _attach_fails(place: Place, journal: str) -> bool:
    with line(place) as other:
        other.greet()
        other.sock.sendall(frame(Message.ATTACH, journal))
        first: int = next(other.messages())[0]
        return first == Message.GOODBYE


_HELLO = frame(Message.HELLO, PROTOCOL_VERSION, "", 1)
_NONSENSE = {
    "giant length": struct.pack("<I", 2**32 - 1),
    "large length": struct.pack("<I", (4 << 20) + 1),
    "empty frame": struct.pack("<I", 0),
    "no list": struct.pack("<I", 1) + b"\x01",
    "empty list": struct.pack("<I", 1) + b"\x90",
    "deep list": struct.pack("<I", 100_000) + b"\x91" * 100_000,
    "lying array": struct.pack("<I", 5) + b"\xdd\xff\xff\xff\xff",
    "lying string": struct.pack("<I", 5) + b"\xdb\xff\xff\xff\xff",
    "odd key": struct.pack("<I", 4) + b"\x91\x81\x90\x00",
    "not greeted": frame(Message.ATTACH, "0" * 16),
    "short hello": frame(Message.HELLO),
    "long hello": frame(Message.HELLO, *range(100)),
    "unknown kind": frame([[]], "x"),
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
_GREETED = {
    "request of nothing": frame(Message.REQUEST),
    "request of too much": frame(Message.REQUEST, *range(9)),
    "short attach": frame(Message.ATTACH),
}


@pytest.mark.parametrize("data", _NONSENSE.values(), ids=_NONSENSE)
def test_nonsense_in_place_of_a_greeting_is_refused(served: Place, data: bytes) -> None:
    before = served.pids()["dispatcher"]
    with line(served) as other:
        other.sock.sendall(data)
        message = other.expect(Message.GOODBYE)
        assert message[1][0] in {
            ServiceError.__name__,
            "DirectoryMismatchError",
            "VersionMismatchError",
        }
        assert list(other.messages()) == []
    assert served.pids()["dispatcher"] == before


@pytest.mark.parametrize("data", _GREETED.values(), ids=_GREETED)
def test_nonsense_after_a_greeting_is_refused(served: Place, data: bytes) -> None:
    before = served.pids()["dispatcher"]
    with line(served) as other:
        other.greet()
        other.sock.sendall(data)
        assert other.expect(Message.GOODBYE)[1][0] == ServiceError.__name__
    assert served.pids()["dispatcher"] == before


@pytest.mark.parametrize(
    "verb", ["", "no such", 7, None, [[]], {"a": 1}, "latest", "delete", "claim"]
)
def test_a_request_that_makes_no_sense_is_answered(served: Place, verb: object) -> None:
    with line(served) as other:
        other.greet()
        other.sock.sendall(frame(Message.REQUEST, 3, verb, []))
        _, number, ok, _ = other.expect(Message.RESPONSE)
        assert (number, ok) == (3, False)
