"""What the agent's connection goes on after, and what waits for an answer when it ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.engine.connection import ServiceConnection
from livingai.engine.starting import Starter
from livingai.errors import JournalClosedError
from livingai.protocol.frames import (
    PROTOCOL_VERSION,
    WAKE_FRAME,
    FrameBuffer,
    Message,
    frame,
)
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import ServiceWord, WakeFor
from livingai.stores.sqlite import SQLiteStore
from tests.support.journals import overwrite
from tests.support.patience import patience
from tests.support.waiting import until


class Stage:
    """An agent's connection, and the test in the place of the service."""

    def __init__(self, folder: Path) -> None:
        self.directory = StateDirectory(folder / "state")
        self.store = SQLiteStore(folder / "a.db")
        self.directory.ensure(self.store.url)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self.directory.socket_address() as address:
            self.listening.bind(address)
        self.listening.listen()
        self.listening.settimeout(patience(20))
        self.greeted = 0
        #: Called by the agent's thread at each greeting.
        self.on_connect: Callable[[], None] = lambda: None
        config = EngineConfig(service="attach")
        service = ServiceConfig.build(self.store, self.directory.path, config)
        self.agent = ServiceConnection(
            self.directory, Starter(self.directory, config, service), self.store.url,
            on_outcomes=lambda *_: None, on_connect=self._connected, on_tick=lambda: None,
        )  # fmt: skip

    def _connected(self) -> None:
        self.greeted += 1
        self.on_connect()

    def accept(self) -> socket.socket:
        """The agent connects, and is greeted."""
        connected, _ = self.listening.accept()
        connected.settimeout(patience(20))
        connected.sendall(frame(Message.HELLO, PROTOCOL_VERSION, 1, "test"))
        return connected

    def until_greeted(self, times: int) -> None:
        until(lambda: self.greeted == times, what=f"greeting {times}", timeout=20)

    def close(self) -> None:
        self.agent.close()
        self.listening.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with closing(Stage(tmp_path)) as made:
        yield made


def messages(connected: socket.socket, count: int) -> list[list[object]]:
    """The first so many that are no wake-ups."""
    buffer, found = FrameBuffer(), list[list[object]]()
    while len(found) < count:
        data = connected.recv(65536)
        assert data, "the agent has left"
        found += [message for message in buffer.feed(data) if message[0] != Message.WAKE]
    return found


def test_outcomes_are_looked_for_after_each_greeting(stage: Stage) -> None:
    """The service may have written some that it could not send."""
    for number in range(1, 4):
        with closing(stage.accept()):
            stage.until_greeted(number)


def test_its_thread_survives_what_nobody_has_thought_of(stage: Stage) -> None:
    """All that waits for an outcome depends on it."""

    def fail() -> None:
        if stage.greeted == 1:
            raise RuntimeError("a mistake")

    stage.on_connect = fail
    with closing(stage.accept()):
        stage.until_greeted(1)
        with closing(stage.accept()) as again:
            stage.until_greeted(2)
            answer = stage.agent.request("size")
            _, (_, number, verb, _) = messages(again, 2)
            assert verb == "size"
            again.sendall(frame(Message.RESPONSE, number, True, 5))
            assert answer.result(patience(30)) == 5


def test_a_journal_that_is_made_later_is_told_at_once(stage: Stage) -> None:
    with closing(stage.accept()) as service:
        stage.until_greeted(1)
        stage.agent.attach(7)
        assert messages(service, 2)[1] == [Message.ATTACH, f"{7:016x}"]


def test_the_services_trouble_ends_with_it(stage: Stage) -> None:
    """The next one may have none."""
    with closing(stage.accept()) as service:
        service.sendall(frame(Message.TROUBLE, "the store is full"))
        until(lambda: "the store is full" in stage.agent.trouble, what="it", timeout=20)
    with closing(stage.accept()):
        stage.until_greeted(2)
        assert "the store is full" not in stage.agent.trouble


def test_a_wake_up_that_is_due_while_another_one_is_sent_is_sent_too(stage: Stage) -> None:
    """The service may have read the first one before the append of the second one was there."""
    overwrite(stage.directory.service_state, 8 * ServiceWord.WAITING, bytes([WakeFor.APPENDS]))
    sent: list[bytes] = []

    class Line:
        def send(self, data: bytes, _: int) -> int:
            sent.append(data)
            if len(sent) == 1:
                stage.agent.hurry()  # as another thread does: it finds the lock held
            return len(data)

    done = threading.Event()
    stage.on_connect = lambda: cast(None, done.wait(patience(20)))  # its own thread sends nothing
    with closing(stage.accept()):
        stage.until_greeted(1)
        stage.agent._out.clear()
        stage.agent._socket = cast(socket.socket, Line())
        try:
            stage.agent.hurry()
            assert sent == [WAKE_FRAME] * 2
        finally:
            done.set()


def test_no_question_outlives_it(stage: Stage) -> None:
    """Neither one that waits for its answer, nor one that comes too late."""
    with closing(stage.accept()) as service:
        before = stage.agent.request("size")
        messages(service, 2)
        stage.agent.close()
        after = stage.agent.request("size")
        for answer in (before, after):
            with pytest.raises(JournalClosedError):
                answer.result(patience(30))
