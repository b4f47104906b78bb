"""The supervisor: starts the dispatcher and starts it again when it dies. Nothing else.

It imports little and does little, so that little can go wrong in it. A lock in the state directory
keeps it single: of many that agents start at once, all but one end before they start anything.

A dispatcher that is done says so on a pipe (:mod:`livingai.workers.dispatcher.main`); any other end
is a death, followed by a restart with exponential backoff. One that dies ``_MAX_EARLY`` times
before it has lived ``_HEALTHY_S`` seconds, or ``_MAX_DEATHS`` times of itself (not by a signal)
without having lived ``_SOUND_S``, is given up: something is wrong that restarting does not mend.
From the third death in a row on the report says what (:mod:`livingai.service.report`), and so do
agents and ``livingai status``.

Exit statuses: 0 it is done (idle, or asked to stop), 1 given up, 3 another service owns the
directory, 4 asked to stop before the store had everything.

First it proves to the process that started it that it is livingai (:mod:`livingai.service.launch`);
only then is it sent its settings, one JSON line on standard input. With ``--detach`` the process
forks and its parent returns at once (not with ``--keep``); otherwise the end of standard input
means stop. With ``--take-over`` it waits until the directory is free, with ``--follow PID`` it
takes the place of the supervisor with that number (:mod:`livingai.workers.successor`). It
is the subreaper of the service: what a dead dispatcher leaves is collected here and not by the
agent, which may be process 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from livingai import _version
from livingai.failpoint import enter_process, failpoint
from livingai.protocol.exit_codes import ExitCode
from livingai.workers.deaths import Deaths, how_it_ended

if TYPE_CHECKING:
    from livingai.service.report import Reporter
    from livingai.workers.companion import Companion

_HEALTHY_S, _SOUND_S = 5.0, 60.0
_MAX_EARLY, _MAX_DEATHS = 8, 20
_FIRST_DELAY_S, _LAST_DELAY_S = 0.02, 2.0
#: Seconds that a supervisor which takes over waits for the one before, and between two looks.
_HAND_OVER_S, _LOOK_S = 60.0, 0.01
#: Seconds that the last of the service's processes may take to end after the dispatcher.
_REST_S = 10.0
_PR_SET_CHILD_SUBREAPER = 36
#: "format": how this process writes to the log, once its settings say so.
_VOICE: dict[str, str] = {}


class Supervisor:
    """Keeps one dispatcher alive."""

    def __init__(self, settings: bytes) -> None:
        self._settings = settings
        self._stopping = False
        #: Ends a pause; a pipe, because a signal handler must not wait for an Event's lock.
        self._told, self._tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._child = 0
        self._deaths = Deaths("service's dispatcher")
        self._reporter: Reporter | None = None
        self._companion: Companion | None = None

    def run(self) -> int:
        """Supervise until the dispatcher is done; the exit status."""
        delay = _FIRST_DELAY_S
        early = of_itself = 0
        while True:
            started = time.monotonic()
            code, words = self._live_once()
            if code == ExitCode.RUNNING:
                self._end_companion()
                return code
            if "done" in words or self._stopping:
                return self._finish(words)
            lived_s = time.monotonic() - started
            if lived_s >= _SOUND_S:
                self._deaths.works()
                delay, of_itself = _FIRST_DELAY_S, 0
            early = early + 1 if lived_s < _HEALTHY_S else 1
            of_itself += code >= 0
            reason = how_it_ended(code, str(words.get("error", "")))
            self._deaths.died(reason)
            self._report(self._deaths.trouble)
            if early >= _MAX_EARLY or of_itself >= _MAX_DEATHS:
                _say(f"giving up after {self._deaths.count} deaths, the last one: {reason}")
                self._end_companion()
                return ExitCode.FAILED
            _say(f"the dispatcher ended ({reason}); again in {delay:.2f} s")
            if self._pause(delay):
                return self._finish({})
            delay = min(delay * 2, _LAST_DELAY_S)

    def _finish(self, words: dict[str, Any]) -> int:
        left = int(words.get("left", 0))
        if self._reporter is not None:
            self._reporter.end(left)
        self._end_companion()
        self._reap_rest()
        drained = bool(words.get("done"))
        if left and not drained:
            _say(f"{left} records are not stored; they wait in the state directory")
        return ExitCode.RECORDS_LEFT if left and not drained else ExitCode.DONE

    def _live_once(self) -> tuple[int, dict[str, Any]]:
        """One life of the dispatcher: its exit status, and what it said at its end."""
        hear, speak = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        command = [
            sys.executable, "-P", "-m", "livingai.workers.dispatcher.main",
            str(os.getpid()), str(speak), str(self._deaths.count),
        ]  # fmt: skip
        try:
            failpoint("supervisor.before_start")
            child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[speak])
        except OSError as error:
            os.close(hear)
            return ExitCode.FAILED, {"error": f"it cannot be started: {error}"}
        finally:
            os.close(speak)
        self._child = child.pid
        failpoint("supervisor.after_start")
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed already
            os.write(child.stdin.fileno(), self._settings)
        if self._stopping:
            os.kill(child.pid, signal.SIGTERM)
        self._settle_in()
        child.returncode = self._wait()
        child.stdin.close()
        return child.returncode, _words(hear)

    def _settle_in(self) -> None:
        """What can wait until the first dispatcher is on its way."""
        if self._reporter is not None:
            return
        # They take as long to import as all of this module's own.
        from livingai.service.report import Reporter  # noqa: PLC0415

        with contextlib.suppress(OSError, AttributeError, ImportError):
            import ctypes  # noqa: PLC0415

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        config = json.loads(self._settings)
        self._reporter = Reporter(
            config["directory"],
            served=bool(config.get("served")),
            foreground=bool(config.get("foreground")),
        )
        self._reporter.begin()
        if config.get("metrics") or config.get("metrics_file"):
            from livingai.workers.companion import Companion  # noqa: PLC0415 - few have one

            self._companion = Companion(self._settings, _say)

    def _end_companion(self) -> None:
        if self._companion is not None:
            self._companion.close()

    def _report(self, trouble: str) -> None:
        if self._reporter is not None:
            self._reporter.trouble(trouble)

    # -- children --

    def _wait(self) -> int:
        """Wait for the dispatcher's end, and collect whatever else ends."""
        healthy_at = time.monotonic() + _HEALTHY_S
        while True:
            code = self._reap()
            if code is not None:
                return code
            left = healthy_at - time.monotonic()
            if left <= 0:
                self._report("")
            due = self._companion.tick() if self._companion is not None else None
            self._sleep(min((s for s in (left, due) if s is not None and s > 0), default=None))

    def _reap(self) -> int | None:
        """Collect children that have ended; the dispatcher's exit status if it is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ExitCode.FAILED if self._child else None
            if pid == 0:
                return None
            if pid == self._child:
                self._child = 0
                return os.waitstatus_to_exitcode(status)
            if self._companion is not None:
                self._companion.ended(pid, os.waitstatus_to_exitcode(status))

    def _reap_rest(self) -> None:
        """Collect what the dispatcher has left, such as the tracker of its semaphores."""
        deadline = time.monotonic() + _REST_S
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(-1, os.WNOHANG)[0]:
                    continue
                self._sleep(left)
                continue
            return

    def _sleep(self, seconds: float | None) -> None:
        """Until a child has ended or a stop is requested."""
        if select.select([self._told], [], [], seconds)[0]:
            os.read(self._told, 4096)

    def _pause(self, seconds: float) -> bool:
        """Wait; True at once if a stop is requested."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            self._sleep(left)
        return self._stopping

    # -- signals --

    def child_ended(self, _number: int, _: object) -> None:
        """SIGCHLD."""
        self._nudge()

    def stop(self, number: int = signal.SIGTERM, _: object = None) -> None:
        """Pass the signal on: SIGTERM drains, SIGQUIT ends at once."""
        self._stopping = True
        self._nudge()
        child = self._child
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of nudges
            os.write(self._tell, b"\0")

    def stop_at_end_of_input(self) -> None:
        """Stop when the process that started this one has ended."""
        while os.read(0, 4096):
            pass
        self.stop()


def _words(fd: int) -> dict[str, Any]:
    """What the dispatcher said at its end: a JSON object with done, left or error."""
    with os.fdopen(fd, "rb") as file:
        try:
            said = json.loads(file.read(65536) or b"{}")
        except ValueError:
            return {}
    return said if isinstance(said, dict) else {}


def _lock(directory: str, wait_s: float) -> bool:
    """Hold the directory's supervisor lock until this process ends; False if another one does. It
    is waited for while standard input is open."""
    path = os.path.join(directory, "supervisor.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                return False
            if select.select([0], [], [], _LOOK_S)[0]:  # whoever has started us has ended
                return False
        else:
            return True


def _say(text: str) -> None:
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} supervisor {text}"
    if _VOICE.get("format") == "json":
        from livingai.service.logfile import json_line  # noqa: PLC0415 - as Reporter

        line = json_line("supervisor", text)
    with contextlib.suppress(OSError):  # a terminal that hung up
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _prove(arguments: list[str]) -> None:
    """Show that this is a Python with this very livingai: ``--prove DESCRIPTOR NONCE``."""
    at = arguments.index("--prove")
    fd, nonce = int(arguments[at + 1]), arguments[at + 2]
    proof = {
        "nonce": nonce,
        "package": os.path.dirname(os.path.realpath(_version.__file__)),
        "version": _version.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    with contextlib.suppress(OSError):  # no reader any more: our input ends, too
        os.write(fd, json.dumps(proof).encode() + b"\n")
    os.close(fd)


def main() -> int:
    """Read the settings, take the directory's lock and supervise a dispatcher; the exit status."""
    enter_process("supervisor")
    _prove(sys.argv)
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            break
        line += chunk
    if not line.strip():
        return ExitCode.FAILED
    settings = json.loads(line)
    _VOICE["format"] = settings.get("log_format", "text")
    successor = None
    if "--follow" in sys.argv:  # imported before we detach: whoever starts us sees it fail
        from livingai.workers.successor import Successor  # noqa: PLC0415 - only who follows needs it

        successor = Successor(settings, int(sys.argv[sys.argv.index("--follow") + 1]))
    detach = "--detach" in sys.argv
    if detach:
        if "--keep" not in sys.argv and os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
    if successor is not None and (code := successor.make_room()) != ExitCode.DONE:
        return code
    if not _lock(settings["directory"], _HAND_OVER_S if "--take-over" in sys.argv else 0.0):
        return ExitCode.RUNNING
    if successor is not None:
        successor.settled()
    with contextlib.suppress(OSError):  # what the one before had to say is over
        os.unlink(os.path.join(settings["directory"], "service.report"))
    supervisor = Supervisor(line.rstrip(b"\n") + b"\n")
    signal.signal(signal.SIGCHLD, supervisor.child_ended)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGQUIT, supervisor.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not detach:
        threading.Thread(target=supervisor.stop_at_end_of_input, daemon=True).start()
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
