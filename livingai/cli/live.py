"""Commands that go on until Ctrl-C or SIGTERM."""

from __future__ import annotations

import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

import click

from livingai.cli import output

#: Moves the cursor to the upper left corner and clears from there (ECMA-48: CUP, ED).
_CLEAR: Final = "\x1b[H\x1b[J"


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A number of seconds, at least a tenth of one and at most a day."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; fails with a usage error that names the option."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if not 0.1 <= seconds <= 86_400.0:
            self.fail(f"{value!r} is no number of seconds from 0.1 to 86400.", param, ctx)
        return seconds


@contextmanager
def until_stopped() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, and the command goes on behind it."""
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def ticks(every_s: float) -> Iterator[float]:
    """Yield at once and then every so many seconds; each time, how many have passed since the last
    one. Ends when standard output is a pipe that nobody reads any more."""
    last = time.monotonic()
    due = last
    yield 0.0
    while True:
        due = max(due + every_s, time.monotonic())
        while (left := due - time.monotonic()) > 0:
            if _hung_up(left):
                return
        now = time.monotonic()
        passed, last = now - last, now
        yield passed


def _hung_up(wait_s: float) -> bool:
    """Wait; whether the reader of standard output went away meanwhile."""
    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)  # only errors and hang-ups
    except (OSError, ValueError, AttributeError):  # closed, or no file
        time.sleep(wait_s)
        return False
    found = poller.poll(wait_s * 1000)
    return bool(found and found[0][1] & (select.POLLERR | select.POLLHUP))


def fresh_screen() -> None:
    """On a terminal, what is printed next takes the place of what is there."""
    if output.is_terminal():
        click.echo(_CLEAR, nl=False)
