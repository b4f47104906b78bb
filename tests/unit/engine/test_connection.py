"""The agent's connection to a service that reads nothing, ends, and comes back."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.engine.connection import ServiceConnection
from livingai.engine.starting import Starter
from livingai.protocol.frames import (
    PROTOCOL_VERSION,
    FrameBuffer,
    Message,
    frame,
)
from livingai.queue.directory import StateDirectory
from livingai.stores.sqlite import SQLiteStore
from tests.support.waiting import until

_DEADLINE_S = 60
#: More than a socket takes that nobody reads.
_REQUESTS = 3000
_LONG = "x" * 1000


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.ensure(SQLiteStore(tmp_path / "a.db").url)
    return directory


@pytest.fixture
def service(directory: StateDirectory) -> Iterator[socket.socket]:
    """Where the service listens; the test is the service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        with directory.socket_address() as address:
            listening.bind(address)
        listening.listen()
        listening.settimeout(_DEADLINE_S)
        yield listening


@contextmanager
def connected(directory: StateDirectory, folder: Path) -> Iterator[ServiceConnection]:
    store, config = SQLiteStore(folder / "a.db"), EngineConfig(service="attach")
    starter = Starter(directory, config, ServiceConfig.build(store, directory.path, config))
    with closing(
        ServiceConnection(
            directory, starter, store.url, on_outcomes=lambda *_: None, on_connect=lambda: None,
            on_tick=lambda: None,
        )
    ) as connection:  # fmt: skip
        yield connection


class Heard:
    """What the agent says on one connection."""

    def __init__(self, listening: socket.socket) -> None:
        self.socket, _ = listening.accept()
        self.socket.settimeout(_DEADLINE_S)
        self._buffer = FrameBuffer()
        self.messages: list[list[Any]] = []

    def until(self, count: int) -> list[list[Any]]:
        """The first so many messages; wake-ups are left out."""
        while len(self.messages) < count:
            data = self.socket.recv(65536)
            assert data, "the agent has left"
            self.messages += [m for m in self._buffer.feed(data) if m[0] != Message.WAKE]
        return self.messages

    def greet(self) -> None:
        self.socket.sendall(frame(Message.HELLO, PROTOCOL_VERSION, 1, "test"))

    def close(self) -> None:
        self.socket.close()


def test_what_was_left_half_sent_is_asked_again_as_a_whole(
    directory: StateDirectory, service: socket.socket, tmp_path: Path
) -> None:
    """The next connection begins with a greeting, and then each request comes once."""
    with connected(directory, tmp_path) as connection:
        with closing(Heard(service)) as first:
            first.greet()
            first.until(1)
            connection.attach(7)
            answers = [connection.request("size", number, _LONG) for number in range(_REQUESTS)]
            until(lambda: connection._out, what="the socket takes no more")
        with closing(Heard(service)) as second:
            messages = second.until(2 + _REQUESTS)
            assert messages[0][0] == Message.HELLO
            assert messages[1] == [Message.ATTACH, f"{7:016x}"]
            asked = messages[2:]
            assert {m[0] for m in asked} == {Message.REQUEST}
            assert [m[3] for m in asked] == [[number, _LONG] for number in range(_REQUESTS)]
            second.greet()
            for message in asked:
                second.socket.sendall(frame(Message.RESPONSE, message[1], True, message[3][0]))
            found = [answer.result(_DEADLINE_S) for answer in answers]
            assert found == list(range(_REQUESTS))


def test_what_has_its_answer_is_not_asked_again(
    directory: StateDirectory, service: socket.socket, tmp_path: Path
) -> None:
    with connected(directory, tmp_path) as connection:
        with closing(Heard(service)) as first:
            first.greet()
            answered, cancelled, open_ = (connection.request("size", n) for n in range(3))
            requests = first.until(4)[1:]
            first.socket.sendall(frame(Message.RESPONSE, requests[0][1], True, "answer"))
            assert answered.result(_DEADLINE_S) == "answer"
            cancelled.cancel()
        with closing(Heard(service)) as second:
            assert [m[0] for m in second.until(2)] == [Message.HELLO, Message.REQUEST]
            assert second.messages[1] == requests[2]
            second.greet()
            second.socket.sendall(frame(Message.RESPONSE, requests[2][1], True, "late"))
            assert open_.result(_DEADLINE_S) == "late"
            assert len(second.messages) == 2


def test_a_message_that_the_socket_takes_in_parts(
    directory: StateDirectory, service: socket.socket, tmp_path: Path
) -> None:
    with connected(directory, tmp_path) as connection, closing(Heard(service)) as heard:
        heard.greet()
        heard.until(1)
        connection.request("size", text := "".join(map(str, range(1_000_000))))
        connection.request("size", 2)
        assert [m[3] for m in heard.until(3)[1:]] == [[text], [2]]


def test_the_thread_is_woken_for_a_request_only_if_it_has_to_be(
    directory: StateDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is no connection, it tries again at once; else who asks sends by itself what the
    socket takes."""
    nudged: list[str] = []
    nudge = ServiceConnection._nudge

    def noted(connection: ServiceConnection) -> None:
        nudged.append(connection.state)
        nudge(connection)

    monkeypatch.setattr(ServiceConnection, "_nudge", noted)
    with connected(directory, tmp_path) as connection:
        connection.request("size", 1)
        assert len(nudged) == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            with directory.socket_address() as address:
                listening.bind(address)
            listening.listen()
            listening.settimeout(_DEADLINE_S)
            with closing(Heard(listening)) as heard:
                heard.greet()
                heard.until(2)
                until(lambda: connection.state == "connected", what="the greeting is read")
                connection.request("size", 2)
                assert [m[3] for m in heard.until(3)[1:]] == [[1], [2]]
                assert len(nudged) == 1
                connection.request("size", "x" * 10_000_000)
                assert len(nudged) == 2
                assert len(heard.until(4)[3][3][0]) == 10_000_000
