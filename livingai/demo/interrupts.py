"""Signals in the demo: Ctrl-C reaches every process of the terminal; only the parent acts on it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_INTERRUPT = {signal.SIGINT}


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Block SIGINT; it is delivered at the end. Processes started meanwhile inherit the mask, so
    they never get one.

    Call in a process's only thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Ignore SIGINT and SIGTERM from now on, so that the demo can tidy up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def stop_on_terminate() -> None:
    """Let SIGTERM end the process as Ctrl-C does, with exit status 143."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
