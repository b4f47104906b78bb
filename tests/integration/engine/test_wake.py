"""A sleeping dispatcher is woken by whoever appends, also while another thread is sending."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode
from livingai.engine.connection import ServiceConnection
from livingai.protocol.frames import WAKE_FRAME
from livingai.queue.layout import ServiceWord, WakeFor
from tests.support import peek
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import until


class Watched:
    """A connection's socket that counts wake-ups; ``held`` holds the sender up behind the first."""

    def __init__(self, connection: ServiceConnection) -> None:
        assert connection._socket is not None
        self.real = connection._socket
        self.wakes = 0
        self.sent, self.go_on = threading.Event(), threading.Event()

    def send(self, data: bytes, flags: int = 0) -> int:
        sent = self.real.send(data, flags)
        if data == WAKE_FRAME:
            self.wakes += 1
            self.sent.set()
            assert self.go_on.wait(patience(60))
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def asleep(connection: ServiceConnection) -> None:
    until(
        lambda: connection._words[ServiceWord.WAITING] == WakeFor.APPENDS,
        what="a dispatcher that sleeps",
    )


def save(engine: CheckpointEngine, execution: str) -> None:
    engine.save_sync(ExecutionNode(execution), b"state")


def test_an_append_while_another_thread_is_sending(state_dir: Place) -> None:
    """The other one's message may have been read before the append was there, and the dispatcher
    sleep again: the thread that has sent it sends one more."""
    with state_dir.service(), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("first"), b"state").result(patience(60))
        connection = engine.open_handle().connection
        watched = Watched(connection)
        asleep(connection)
        connection._socket = watched  # type: ignore[assignment]
        thread = threading.Thread(target=save, args=(engine, "one"))
        thread.start()
        assert watched.sent.wait(patience(60))
        until(lambda: peek.stored_nodes(state_dir.database, "one"), what="the other one's node")
        asleep(connection)
        save(engine, "two")
        assert watched.wakes == 1
        watched.go_on.set()
        thread.join()  # or the connection's own thread was quicker, and sends it
        until(lambda: watched.wakes == 2, what="a second wake-up")
        connection._socket = watched.real


def test_an_append_while_the_thread_is_nudged(
    state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes the same lock, and sends nothing."""
    with state_dir.service(), state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("first"), b"state").result(patience(60))
        connection = engine.open_handle().connection
        watched = Watched(connection)
        watched.go_on.set()
        asleep(connection)
        connection._socket = watched  # type: ignore[assignment]
        write = os.write

        def meanwhile(fd: int, data: bytes) -> int:
            if fd == connection._wake_write and not watched.wakes:
                thread = threading.Thread(target=save, args=(engine, "one"))
                thread.start()
                thread.join()
                assert not watched.wakes
            return write(fd, data)

        monkeypatch.setattr(os, "write", meanwhile)
        connection._nudge()
        monkeypatch.undo()
        until(lambda: watched.wakes, what="the wake-up")
        until(lambda: peek.stored_nodes(state_dir.database, "one"), what="the node")
        assert watched.wakes == 1
        connection._socket = watched.real
