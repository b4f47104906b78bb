"""The agent's connection to the service: outcomes in, wake-ups and requests out.

One thread per process and state directory owns the socket. No call of an agent waits for it:
a wake-up is one non-blocking send, a request is queued. When the service is away the thread has it
started again, with backoff (:mod:`livingai.engine.starting`); when it is back, the thread reads the
outcomes that it missed from the journal, where the service wrote them before it sent them. All
that waits for an outcome depends on the thread, so only :meth:`ServiceConnection.close` ends it.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from livingai.engine.reconnect import LONGEST_DELAY_S, Attempts
from livingai.engine.starting import Starter
from livingai.engine.versions import ServiceVersion
from livingai.errors import JournalClosedError, LivingAIError, ServiceUnavailableError
from livingai.outcome import Receipt
from livingai.promise import Deferred
from livingai.protocol.error_parts import error_from_parts
from livingai.protocol.frames import (
    PROTOCOL_VERSION,
    REVISION,
    WAKE_FRAME,
    FrameBuffer,
    Message,
    frame,
)
from livingai.protocol.refusals import refused
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import SERVICE_STATE_BYTES, ServiceWord, WakeFor
from livingai.queue.mapping import CUTS, map_file
from livingai.queue.opening import open_binary
from livingai.queue.segment import journal_error

_log = logging.getLogger("livingai")
_WAITING, _LINGER_NS = int(ServiceWord.WAITING), int(ServiceWord.LINGER_NS)
_HASTE = int(WakeFor.HASTE)
_CHUNK = 1 << 18
#: Seconds between two looks at a service of an earlier version, which read files.
_COMPARE_S = 1.0
#: The service's words as a closed connection sees them: the service does not sleep.
_NO_SERVICE: Sequence[int] = (0,) * (SERVICE_STATE_BYTES // 8)


class ServiceConnection:
    """This process's connection to the service of one state directory.

    ``on_outcomes(packed, reasons, lost)`` and ``on_connect()`` are called from its thread.
    """

    def __init__(
        self,
        directory: StateDirectory,
        starter: Starter,
        store_url: str,
        *,
        on_outcomes: Callable[[bytes, dict[int, str], list[tuple[int, int, str]]], None],
        on_connect: Callable[[], None],
        on_tick: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._starter = starter
        self._store_url = store_url
        self._on_outcomes = on_outcomes
        self._on_connect = on_connect
        self._on_tick = on_tick
        self._journal: str | None = None
        self._socket: socket.socket | None = None
        self._out: collections.deque[bytes] = collections.deque()
        self._sending = threading.Lock()
        #: Records were left to a service that lingers, and nobody has waited for one since.
        self._left = False
        #: A wake-up is due: who finds the lock held leaves it to who holds it.
        self._wake_due = False
        #: Unanswered requests and their frames: asked again after a reconnect (all are reads or
        #: barriers, so asking twice is harmless).
        self._requests: dict[int, tuple[Deferred[Any], bytes]] = {}
        self._numbers = itertools.count(1)
        self._stop = False
        self._last_error: LivingAIError | None = None
        #: How the connection is: starting, waiting, connected, reconnecting, closed.
        self.state = "starting"
        #: When the service greeted last (CLOCK_MONOTONIC ns); what came before waited for it.
        self.connected_ns = 0
        #: What the connected service says, and what is wrong with the connection itself.
        self._told = self._own_trouble = ""
        self._attempts = Attempts()
        self._version = ServiceVersion(starter, self._attempts)
        #: When the service's version is to be looked at again (CLOCK_MONOTONIC).
        self._compare_at = 0.0
        self._words: Sequence[int] = _NO_SERVICE
        self._cuts = CUTS.count
        self._wake_read = self._wake_write = -1
        self._thread = threading.Thread(target=self._run, name="livingai-client", daemon=True)
        try:
            self._words = self._map()
            self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._thread.start()
        except (OSError, RuntimeError) as error:
            self._release()
            if isinstance(error, OSError):
                raise journal_error(error, "cannot connect to the service") from error
            raise ServiceUnavailableError(f"cannot connect to the service: {error}") from error

    def _map(self) -> Sequence[int]:
        """The service's page. Raises OSError."""
        with open_binary(self._directory.service_state) as file:
            page = map_file(file.fileno(), SERVICE_STATE_BYTES)
        # Never released by hand: a save may be looking at it while the client is closed.
        return memoryview(page).cast("Q")

    def _look_again(self) -> None:
        """Files were cut short. If the service's page is one of them, the service makes it anew;
        until then nothing wakes it, and it looks by itself now and then."""
        cuts = CUTS.count
        if message := CUTS.take_message():
            _log.warning("%s", message)
        with contextlib.suppress(OSError, ValueError):
            self._words = self._map()
            self._cuts = cuts

    # -- called by agents --

    def attach(self, journal_id: int) -> None:
        """Say which journal is this process's; its outcomes come from then on."""
        self._journal = f"{journal_id:016x}"
        self._post(frame(Message.ATTACH, self._journal))

    def appended(self, receipt: Receipt, budget_us: int, longest_ns: int) -> None:
        """A record with this budget was appended: wake a service that sleeps. One that lingers, for
        ``longest_ns`` at most, is left alone until somebody waits for the receipt. Never blocks,
        never raises."""
        words = self._words
        if words[_WAITING] == _HASTE and words[_LINGER_NS] <= min(longest_ns, budget_us * 500):
            self._left = True
            receipt.leave_to(self)
        else:
            self.hurry()

    def hurry_left(self) -> None:
        """As :meth:`hurry`, unless that was done since a record was left last."""
        if self._left:
            self._left = False
            self.hurry()

    def hurry(self) -> None:
        """Wake a service that sleeps or lingers. Never blocks, never raises."""
        if self._words[_WAITING]:
            self._wake_due = True
            self._send_wake()

    def _send_wake(self) -> None:
        """Send the wake-up that is due, unless the lock is held: whoever has held it calls this,
        for what was sent meanwhile may have been read before the append was there."""
        # Not acquire(blocking=False): a signal's exception between that and a "try" would leave
        # the lock held for ever.
        while self._wake_due and not self._sending.locked():
            with self._sending:
                due, self._wake_due = self._wake_due, False  # or another thread was quicker
                # What is queued wakes it, too.
                if due and self._socket is not None and not self._out:
                    with contextlib.suppress(OSError):
                        self._socket.send(WAKE_FRAME, socket.MSG_DONTWAIT)

    def request(self, verb: str, *arguments: Any) -> Deferred[Any]:
        """Ask the service; the answer is a LivingAIError where the service says so. Who no longer
        waits cancels it.

        Raises:
            JournalClosedError: the client is closed.
        """
        answer: Deferred[Any] = Deferred()
        number = next(self._numbers)
        data = frame(Message.REQUEST, number, verb, list(arguments))
        self._requests[number] = (answer, data)
        answer.add_callback(lambda _: self._requests.pop(number, None))
        self._post(data)
        if self._stop:  # the closing thread has perhaps not seen it
            self._fail_requests(JournalClosedError())
        return answer

    @property
    def trouble(self) -> str:
        """Why nothing is stored now, as the service says, or why there is no service; "" while all
        is well. That the service is of another version comes first: it may be the cause."""
        return "; ".join(filter(None, (self._own_trouble, self._told))) or self._starter.trouble

    @property
    def last_error(self) -> LivingAIError | None:
        """Why the service could not be reached last time; None while it is connected."""
        return self._last_error

    def close(self) -> None:
        """Leave the service and end the thread; a request without an answer gets a
        JournalClosedError. Idempotent."""
        if self._stop:
            return
        self._stop = True
        self._nudge()
        self._thread.join()
        self._fail_requests(JournalClosedError())
        self._release()
        self.state = "closed"

    def abandon(self) -> None:
        """In a forked child: close the copies of the parent's descriptors, touch nothing else."""
        self._stop = True
        self._sending = threading.Lock()  # the parent's may have been held while forking
        if self._socket is not None:
            self._socket.close()
        self._release()

    def _release(self) -> None:
        with self._sending:
            for fd in (self._wake_read, self._wake_write):
                if fd >= 0:
                    os.close(fd)
            self._wake_read = self._wake_write = -1
        self._words = _NO_SERVICE

    # -- the thread --

    def _post(self, data: bytes) -> None:
        """Send a message, or queue what the socket does not take now; while there is no connection,
        the next one's greeting carries all. Else the thread has nothing to do with it: to wake it
        costs this one the interpreter for a while."""
        with self._sending:
            is_sent = False
            if self._socket is not None and not self._out:
                with contextlib.suppress(OSError):  # full, or broken: the thread sees which
                    data = data[self._socket.send(data, socket.MSG_DONTWAIT) :]
                is_sent = not data
            if self._socket is not None and not is_sent:
                self._out.append(data)
        if is_sent:
            self._send_wake()
        else:
            self._nudge()

    def _nudge(self) -> None:
        with self._sending:  # or the descriptor's number may be another file's by now
            if self._wake_write >= 0:
                with contextlib.suppress(BlockingIOError):  # a full pipe wakes just as well
                    os.write(self._wake_write, b"\0")
        self._send_wake()

    def _run(self) -> None:
        while not self._stop:
            try:
                self._connect(self._attempts)
            except Exception:  # all that waits for an outcome depends on this thread
                _log.exception("the connection to the service failed unexpectedly; trying again")
                self._sleep(LONGEST_DELAY_S)

    def _connect(self, attempts: Attempts) -> None:
        """Connect and talk until the connection ends; else start the service if it is time."""
        try:
            sock = self._directory.connect(2.0)
        except OSError:
            try:
                self.state = self._starter.no_service(attempts)
            except LivingAIError as error:
                self._fail(error)
            self._pause(attempts.next_delay_s())
            return
        began = time.monotonic()
        try:
            if self._serve(sock):
                attempts.succeeded(time.monotonic() - began)
        finally:
            self._disconnect(sock)
        if not self._stop:
            self._pause(attempts.delay_s)

    def _fail(self, error: LivingAIError) -> None:
        """Remember why, and fail the requests that wait; the same error is logged only once."""
        if str(error) != str(self._last_error):
            _log.warning("%s", error)
        self._last_error = error
        self._own_trouble = str(error)
        self._fail_requests(error)

    def _fail_requests(self, error: LivingAIError) -> None:
        for answer, _ in list(self._requests.values()):
            answer.fail(error)

    def _pause(self, seconds: float) -> None:
        self._sleep(seconds)
        self._on_tick()

    def _sleep(self, seconds: float) -> None:
        """Wait; a nudge shortens it to 20 ms."""
        poller = select.poll()  # select() takes no descriptor above 1023
        poller.register(self._wake_read, select.POLLIN)
        if poller.poll(seconds * 1000):
            self._drain_nudges()
            if not self._stop:
                threading.Event().wait(min(seconds, 0.02))

    def _drain_nudges(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _hello(self, sock: socket.socket) -> None:
        parts = frame(Message.HELLO, PROTOCOL_VERSION, self._store_url, os.getpid(), REVISION)
        if self._journal is not None:
            parts += frame(Message.ATTACH, self._journal)
        with self._sending:
            sock.setblocking(False)
            self._socket = sock
            self._out.append(parts)
            self._out.extend(data for _, data in list(self._requests.values()))
        self._send_wake()

    def _serve(self, sock: socket.socket) -> bool:
        """Talk until the connection ends; whether the service had answered."""
        self._hello(sock)
        buffer = FrameBuffer()
        welcomed = False
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        while not self._stop:
            wants = select.POLLIN | (select.POLLOUT if self._out else 0)
            poller.register(sock, wants)
            ready = dict(poller.poll(1000))
            if self._wake_read in ready:
                self._drain_nudges()
            try:
                self._flush_out(sock)
                if ready.get(sock.fileno(), 0) & ~select.POLLOUT:
                    data = sock.recv(_CHUNK)
                    if not data:
                        return welcomed
                    for message in buffer.feed(data):
                        welcomed = self._handle(message) or welcomed
            except BlockingIOError:
                continue
            except (OSError, ValueError):
                return welcomed
            if self._cuts != CUTS.count:
                self._look_again()
            if welcomed and time.monotonic() >= self._compare_at:
                self._compare()
            self._on_tick()
        return welcomed

    def _flush_out(self, sock: socket.socket) -> None:
        with self._sending:
            while self._out:
                data = self._out[0]
                sent = sock.send(data, socket.MSG_DONTWAIT)
                if sent < len(data):
                    self._out[0] = data[sent:]
                    break
                self._out.popleft()
        self._send_wake()

    def _handle(self, message: list[Any]) -> bool:
        kind = message[0]
        if kind == Message.OUTCOMES:
            self._on_outcomes(message[1], message[2], message[3] if len(message) > 3 else [])
        elif kind == Message.RESPONSE:
            _, number, ok, value = message
            answer, _ = self._requests.get(number, (None, b""))
            if answer is not None:
                if ok:
                    answer.set(value)
                else:
                    answer.fail(error_from_parts(value))
        elif kind == Message.TROUBLE:
            self._told = str(message[1])
        elif kind == Message.HELLO:
            return self._welcome(message)
        elif kind == Message.GOODBYE and message[1][0]:
            error = error_from_parts(message[1])
            greeted = self.state == "connected"
            self._fail(error if greeted else refused(error, self._directory))
        return False

    def _welcome(self, message: list[Any]) -> bool:
        """The service has greeted; whether it speaks our protocol."""
        if (error := self._version.greeted(message)) is not None:
            self._fail(error)
            return False
        self._compare_at = 0.0  # soon: it may start processes, and nothing is to wait for that
        self.state = "connected"
        self.connected_ns = time.monotonic_ns()
        self._last_error = None
        self._starter.connected()
        self._on_connect()
        return True

    def _compare(self) -> None:
        """A service of another version is reported as trouble while it is there: what it does is
        not what this version's documentation says."""
        trouble = self._version.trouble()
        if trouble and trouble != self._own_trouble:
            _log.warning("%s", trouble)
        self._own_trouble = trouble
        again_s = _COMPARE_S if self._version.is_earlier else math.inf
        self._compare_at = time.monotonic() + again_s

    def _disconnect(self, sock: socket.socket) -> None:
        with self._sending:
            self._socket = None
            self._out.clear()
        sock.close()
        self._told = ""
        self.state = "reconnecting"
