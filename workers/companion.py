"""The exporter as its supervisor sees it: kept running beside the dispatcher, and never in its way.

Its death is no trouble of the service: it is started again after a growing pause, and what it
would have said is said later, for the counters are in files.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

_FIRST_DELAY_S: Final = 0.2
_LAST_DELAY_S: Final = 30.0
#: One that lived so long is started again after the first delay.
_HEALTHY_S: Final = 60.0
#: Seconds that it has for its last words.
_PATIENCE_S: Final = 3.0
#: Its exit status where it cannot work here at all.
_USELESS: Final = 2


class Companion:
    """Keeps one exporter alive. It is to be asked :meth:`tick` now and then."""

    def __init__(self, settings: bytes, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._delay_s = _FIRST_DELAY_S
        self._start_at = self._started_at = 0.0
        self._over = False

    def tick(self) -> float | None:
        """Start the exporter if it is time; seconds until the next call is due, None: none is."""
        if self._over or self._process is not None:
            return None
        left = self._start_at - time.monotonic()
        if left > 0:
            return left
        self._start()
        return None if self._process is not None else self._delay_s

    def _start(self) -> None:
        self._started_at = time.monotonic()
        command = [sys.executable, "-P", "-m", "livingai.metrics.exporter"]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE)
        except OSError as error:
            self._say(f"the exporter cannot be started: {error}")
            self._again()
            return
        with contextlib.suppress(OSError, AttributeError):  # a hint, as in workers/process.py
            os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was killed already
            os.write(process.stdin.fileno(), self._settings)
        self._process = process

    def ended(self, pid: int, code: int) -> None:
        """A child of the supervisor has ended: perhaps this one."""
        process = self._process
        if process is None or process.pid != pid:
            return
        process.returncode = code
        assert process.stdin is not None
        process.stdin.close()
        self._process = None
        if code == _USELESS:
            self._over = True
            self._say("no metrics are exported")
            return
        self._say(f"the exporter ended with {code}")
        self._again()

    def _again(self) -> None:
        if time.monotonic() - self._started_at > _HEALTHY_S:
            self._delay_s = _FIRST_DELAY_S
        self._start_at = time.monotonic() + self._delay_s
        self._delay_s = min(self._delay_s * 2, _LAST_DELAY_S)

    def close(self) -> None:
        """Have it say its last words and end; then end it."""
        self._over = True
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
