"""A store's process as the dispatcher sees it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from livingai.config import EngineConfig, ServiceConfig
from livingai.errors import ServiceUnavailableError
from livingai.stores.sqlite import SQLiteStore
from livingai.workers.dispatcher import store_link, store_process
from livingai.workers.dispatcher.spawning import Spawned, spawn_worker
from livingai.workers.dispatcher.store_link import StoreLink
from livingai.workers.dispatcher.store_process import StoreProcess
from tests.support.journals import state_directory
from tests.support.patience import patience

#: Greets; then a request comes, and it says that it has no more to say, and reads nothing.
_SILENT = """
import select, socket, sys, time
from livingai.protocol.frames import Message, frame
from livingai.workers.store.main import _incoming
sock = socket.socket(fileno=int(sys.argv[1]))
next(filter(None, _incoming(sock)))
sock.sendall(frame(Message.HELLO, 1, 2))
asked = select.poll()
asked.register(sock, select.POLLIN)
asked.poll()
sock.shutdown(socket.SHUT_WR)
time.sleep(600)
"""


def test_it_ends_its_side_and_does_not_read(tmp_path: Path) -> None:
    """A request that is larger than the socket's buffer fails, and the process is killed."""
    config = ServiceConfig.build(SQLiteStore(tmp_path / "a.db"), str(tmp_path), EngineConfig())
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", _SILENT, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    async def ask() -> int | None:
        store = StoreProcess("writer", process, ours, config, lambda: None, lambda _: None)
        await store.up()
        assert store.revision == 2
        with pytest.raises(ServiceUnavailableError, match="writer"):
            await asyncio.wait_for(store.ask("commit", b"x" * 30_000_000), patience(60))
        await store.close()
        return process.returncode

    assert asyncio.run(ask()) == -9


#: Greets, says something when it is asked, and stays.
_NONSENSE = """
import socket, sys, time
from livingai.protocol.frames import Message, frame
from livingai.workers.store.main import _incoming
sock = socket.socket(fileno=int(sys.argv[1]))
incoming = filter(None, _incoming(sock))
next(incoming)
sock.sendall(frame(Message.HELLO, 1, 2))
number = next(incoming)[1]
sock.sendall({nonsense})
time.sleep(600)
"""


@pytest.mark.parametrize(
    "nonsense",
    [
        r"b'\xff' * 100",  # a frame of 4 GB
        "frame(Message.RESPONSE, number)",
        "frame()",
    ],
)
def test_one_that_sends_nonsense_is_ended(tmp_path: Path, nonsense: str) -> None:
    """Whoever waits for its answer is told, and another one can be started."""
    config = ServiceConfig.build(SQLiteStore(tmp_path / "a.db"), str(tmp_path), EngineConfig())
    ours, theirs = socket.socketpair()
    with theirs:
        code = _NONSENSE.format(nonsense=nonsense)
        command = [sys.executable, "-c", code, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    async def ask() -> int | None:
        store = StoreProcess("reader", process, ours, config, lambda: None, lambda _: None)
        await store.up()
        with pytest.raises(ServiceUnavailableError, match="reader"):
            await asyncio.wait_for(store.ask("size"), patience(60))
        await asyncio.wait_for(store.gone(), patience(60))
        assert store.ended
        return process.returncode

    assert asyncio.run(ask()) == -9


#: Greets; then a request comes, and it ends the connection, but does not end itself.
_LINGERING = _SILENT.replace("sock.shutdown(socket.SHUT_WR)", "sock.close()")


def test_a_successor_waits_for_the_end_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still be writing, though it does not listen any more."""
    config = ServiceConfig.build(SQLiteStore(tmp_path / "a.db"), str(tmp_path), EngineConfig())
    state_directory(tmp_path)
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", _LINGERING, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    lived: list[bool] = []

    def spawn(role: str) -> Spawned:
        lived.append(process.poll() is None)
        return spawn_worker(role)

    monkeypatch.setattr(store_link, "spawn_worker", spawn)
    monkeypatch.setattr(store_process, "_REAP_S", 1.0)  # it is killed then

    async def ask() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        reap = store_process._reap

        def waiting(process: subprocess.Popen[bytes]) -> int:
            loop.call_soon_threadsafe(ended.set)
            return reap(process)

        monkeypatch.setattr(store_process, "_reap", waiting)
        link = StoreLink(config, "writer", lambda: None)
        link.adopt(Spawned(process, ours))
        asked = asyncio.create_task(link.call("ready"))
        await asyncio.wait_for(ended.wait(), 60)
        await asyncio.wait_for(link.call("ready"), 60)
        with pytest.raises(ServiceUnavailableError, match="writer died"):
            await asked
        await link.close()

    asyncio.run(ask())
    assert lived == [False]


def test_an_answer_that_comes_as_its_caller_is_cancelled(tmp_path: Path) -> None:
    """Between the cancellation and the caller's own end; the process has done nothing wrong."""
    config = ServiceConfig.build(SQLiteStore(tmp_path / "a.db"), str(tmp_path), EngineConfig())
    state_directory(tmp_path)

    async def ask() -> None:
        spawned = spawn_worker("writer")
        store = StoreProcess(
            "writer", spawned.process, spawned.sock, config, lambda: None, lambda _: None
        )
        callers: list[asyncio.Task[None]] = []
        take = store._take

        def cancelling(message: list[object]) -> None:
            for caller in callers:
                caller.cancel()
            take(message)

        store._take = cancelling  # type: ignore[method-assign]
        await store.up()
        callers.append(asyncio.create_task(store.ask("ready")))
        with pytest.raises(asyncio.CancelledError):
            await callers[0]
        callers.clear()
        await asyncio.wait_for(store.ask("ready"), 60)
        assert not store.ended
        await store.close()

    asyncio.run(ask())


def test_one_that_is_closed_before_it_is_connected_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_process, "_REAP_S", patience(60))
    config = ServiceConfig.build(SQLiteStore(tmp_path / "a.db"), str(tmp_path), EngineConfig())
    state_directory(tmp_path)

    async def close() -> int | None:
        spawned = spawn_worker("writer")
        store = StoreProcess(
            "writer", spawned.process, spawned.sock, config, lambda: None, lambda _: None
        )
        await asyncio.wait_for(store.close(), patience(90))
        return spawned.process.returncode

    assert asyncio.run(close()) == 0
