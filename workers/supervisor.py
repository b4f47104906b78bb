"""The supervisor: starts the dispatcher and starts it again when it dies. Nothing else.

It imports little and does little, so that little can go wrong in it. A lock in the state directory
keeps it single: of many that agents start at once, all but one end before they start anything.

Exit statuses of the dispatcher: 0 it is done (idle, or told to stop), 3 another service owns the
directory; anything else is a death, followed by a restart with exponential backoff. A dispatcher
that dies ``_MAX_BOOT_FAILURES`` times before it has lived ``_HEALTHY_S`` seconds is given up:
something is wrong that restarting does not mend, and the log says what.

Settings come as one JSON line on standard input. With ``--detach`` the process forks and its parent
returns at once; otherwise the end of standard input means stop.
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

from livingai.queue.opening import open_file

_HEALTHY_S = 5.0
_MAX_BOOT_FAILURES = 8
_FIRST_DELAY_S, _LAST_DELAY_S = 0.02, 2.0
_EXIT_RUNNING = 3


class Supervisor:
    """Keeps one dispatcher alive."""

    def __init__(self, settings: bytes) -> None:
        self._settings = settings
        self._stopping = False
        #: Ends a pause; a pipe, because a signal handler must not wait for an Event's lock.
        self._told, self._tell = os.pipe()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Supervise until the dispatcher is done; its exit status."""
        failures = 0
        delay = _FIRST_DELAY_S
        while True:
            started = time.monotonic()
            code = self._live_once()
            if code in (0, _EXIT_RUNNING) or self._stopping:
                return max(code, 0)
            if time.monotonic() - started >= _HEALTHY_S:
                failures, delay = 0, _FIRST_DELAY_S
            failures += 1
            if failures >= _MAX_BOOT_FAILURES:
                _say(f"giving up after {failures} failed starts")
                return 1
            _say(f"the dispatcher ended with {code}; again in {delay:.2f} s")
            if select.select([self._told], [], [], delay)[0]:
                return 0
            delay = min(delay * 2, _LAST_DELAY_S)

    def _live_once(self) -> int:
        command = [sys.executable, "-P", "-m", "livingai.workers.dispatcher_main", str(os.getpid())]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            self._child = child
            assert child.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it was killed already
                os.write(child.stdin.fileno(), self._settings)
            if self._stopping:
                child.terminate()
            return child.wait()

    def stop(self, number: int = signal.SIGTERM, _: object = None) -> None:
        """Pass the signal on: SIGTERM drains, SIGQUIT ends at once."""
        self._stopping = True
        os.write(self._tell, b"\0")
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(number)

    def stop_at_end_of_input(self) -> None:
        """Stop when whoever started us is gone."""
        while os.read(0, 4096):
            pass
        self.stop()


def _lock(directory: str) -> bool:
    """Hold the directory's supervisor lock until this process ends; False if another one does."""
    path = os.path.join(directory, "supervisor.lock")
    fd = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} supervisor {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Entry point; see the module's text."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            break
        line += chunk
    if not line.strip():
        return 1
    detach = "--detach" in sys.argv
    if detach:
        if os.fork():
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
    if not _lock(json.loads(line)["directory"]):
        return _EXIT_RUNNING
    supervisor = Supervisor(line.rstrip(b"\n") + b"\n")
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGQUIT, supervisor.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not detach:
        threading.Thread(target=supervisor.stop_at_end_of_input, daemon=True).start()
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
