"""Ctrl-C in a terminal reaches every process of the group; here only the parent takes notice."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

_INTERRUPT = {signal.SIGINT}


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Inside the block SIGINT waits; processes started there never get one (masks are inherited).

    Call in a process's only thread.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """From here on nothing keeps us from tidying up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def stop_on_terminate() -> None:
    """SIGTERM ends the process like Ctrl-C does, with exit status 143."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
