"""A supervisor that takes the place of one of an earlier livingai (``--follow PID``).

Rules:

1. Of many that agents start, one tries; the others end at once (``successor.lock``).
2. It first shows that it can work: a dispatcher can be imported, and a writer opens the store and
   answers. Only then is the earlier service told to go. Opening may bring the database up to date,
   which the earlier service may not survive; its end is due then anyway.
3. If it cannot, or if the earlier one does not end, it gives up, and says why in the service's log
   and to the agents (:mod:`livingai.service.succession`). They try again after minutes.

The earlier one is not asked to drain: what it has not stored is in the journals, which its
successor reads.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any, Final

from livingai.config import ServiceConfig
from livingai.protocol.exit_codes import ExitCode
from livingai.protocol.frames import REVISION, FrameBuffer, Message, frame
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import OwnerLock, owner_pid
from livingai.service.succession import forget_failure, note_failure
from livingai.workers.deaths import how_it_ended
from livingai.workers.dispatcher.spawning import Spawned, spawn_worker

#: Seconds that the store may take to open: bringing a large database up to date takes minutes.
_OPEN_S: Final = 600.0
#: Seconds that the earlier service may take to end.
LEAVE_S: Final = 60.0
#: Seconds between two looks whether it is there: nothing announces that a lock is free.
_LOOK_S: Final = 0.01
_SLOW_LOOK_S: Final = 0.2
#: Seconds that our own first processes may take to end.
_END_S: Final = 5.0
#: How often processes are started that signals kill.
_TRIES: Final = 3
_IMPORTS: Final = "import livingai.workers.dispatcher.serving"


class CannotFollowError(Exception):
    """Why the earlier service stays, or does not go."""


class KilledError(CannotFollowError):
    """A process that was to show that it works was killed by a signal."""


class Successor:
    """One attempt to take the place of the service whose supervisor is the process
    ``predecessor``."""

    def __init__(self, settings: dict[str, Any], predecessor: int) -> None:
        self._config = ServiceConfig.from_dict(settings)
        self._directory = StateDirectory(self._config.directory)
        self._predecessor = predecessor
        self._lock: OwnerLock | None = None

    def make_room(self, leave_s: float = LEAVE_S) -> ExitCode:
        """Have the predecessor go. DONE: its place was free a moment ago; hold it, then
        :meth:`settled`. RUNNING: another one follows it, or has. FAILED: it is still there, and
        agents are told why."""
        try:
            self._lock = OwnerLock.acquire(self._directory.successor_lock)
            if self._lock is None:
                return ExitCode.RUNNING
            self._show_that_we_work()
            if self._there():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(self._predecessor, signal.SIGQUIT)
                self._see_it_go(leave_s)
            free = owner_pid(self._directory.supervisor_lock) is None
        except Exception as error:  # whatever it is, the agents have to hear of it
            why = f"its successor fails ({type(error).__name__}: {error})"
            if isinstance(error, CannotFollowError):
                why = str(error)
            note_failure(self._directory.path, self._predecessor, why)
            _say(f"process {self._predecessor} of an earlier livingai is not replaced: {why}")
            self.settled()
            return ExitCode.FAILED
        if not free:
            self.settled()
            return ExitCode.RUNNING
        forget_failure(self._directory.path)
        return ExitCode.DONE

    def settled(self) -> None:
        """Another one may try. Idempotent."""
        if self._lock is not None:
            self._lock.release()

    def _there(self) -> bool:
        """Whether the predecessor holds the directory. Its number is its own while it does."""
        return owner_pid(self._directory.supervisor_lock) == self._predecessor

    def _see_it_go(self, leave_s: float) -> None:
        deadline = time.monotonic() + leave_s
        while self._there():
            if time.monotonic() >= deadline:
                raise CannotFollowError(
                    f"it does not end within {leave_s:g} s; kill process {self._predecessor}"
                )
            time.sleep(_LOOK_S)

    # -- the proof --

    def _show_that_we_work(self) -> None:
        """Raise CannotFollowError unless our dispatcher and our writer would work. What a signal
        kills is tried again a few times: that may have come from outside (out of memory)."""
        for left in reversed(range(_TRIES)):
            try:
                if self._there():
                    self._try_processes()
            except KilledError as error:
                if not left:
                    raise
                _say(f"{error}; once more")
            else:
                return

    def _try_processes(self) -> None:
        """One try. Ends early, with nothing shown, if the predecessor ends meanwhile."""
        dispatcher = subprocess.Popen(
            [sys.executable, "-P", "-c", _IMPORTS], stdin=subprocess.DEVNULL
        )
        try:
            writer = spawn_worker("writer")
            with writer.sock:
                try:
                    self._open_store(writer)
                finally:
                    writer.sock.close()  # it ends
                    _end(writer.process)
            code = dispatcher.wait(_OPEN_S) if self._there() else 0
        except subprocess.TimeoutExpired:
            raise CannotFollowError("its successor's dispatcher does not start") from None
        finally:
            dispatcher.kill()
            dispatcher.wait()
        if code:
            raise _cannot_start("dispatcher", code)

    def _open_store(self, writer: Spawned) -> None:
        asked = frame(Message.HELLO, self._config.for_workers(), REVISION)
        asked += frame(Message.REQUEST, 1, "ready", [])
        with contextlib.suppress(BrokenPipeError):  # it has ended: its last words say why
            writer.sock.sendall(asked)
        buffer = FrameBuffer()
        deadline = time.monotonic() + _OPEN_S
        poller = select.poll()
        poller.register(writer.sock, select.POLLIN)
        while self._there():
            if time.monotonic() >= deadline:
                raise CannotFollowError(
                    f"its successor's writer does not open the store within {_OPEN_S:g} s"
                )
            if not poller.poll(_SLOW_LOOK_S * 1000):
                continue
            data = _received(writer)
            for message in buffer.feed(data):
                if message[0] == Message.GOODBYE:
                    raise _not_opened(message[1])
                if message[0] == Message.RESPONSE:
                    if not message[2]:
                        raise _not_opened(message[3])
                    return
            if not data:
                raise _cannot_start("writer", _end(writer.process))


def _received(writer: Spawned) -> bytes:
    try:
        return writer.sock.recv(1 << 16)
    except ConnectionError:
        return b""


def _not_opened(parts: list[Any]) -> CannotFollowError:
    """From the parts of the writer's error."""
    why = ": ".join(map(str, parts[:2]))
    return CannotFollowError(f"its successor's writer cannot open the store ({why})")


def _cannot_start(who: str, code: int) -> CannotFollowError:
    error = KilledError if code < 0 else CannotFollowError
    return error(
        f"its successor's {who} cannot start ({how_it_ended(code, '')}); service.log in the state "
        "directory has what it said"
    )


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process of ours, kill it if it does not end; its exit status."""
    try:
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the disk is full
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} supervisor {text}\n")
        sys.stderr.flush()
