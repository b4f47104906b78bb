"""The clocks of a machine that is booted several times, for code in the test's own process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from unittest import mock

from livingai.queue import boots, tail, views
from livingai.workers.dispatcher import feed, intake


class Clocks:
    """The clocks of a machine that is booted several times."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.boot = b""
        self.mono_ns = self.wall_ns = 0

    def power_loss(self) -> None:
        """Another boot: the monotonic clock begins anew, the wall clock says anything."""
        self.boot = self.random.randbytes(16)
        self.mono_ns = self.random.randrange(1, 10**12)
        self.wall_ns = self.random.randrange(10**18, 2 * 10**18)

    def monotonic_ns(self) -> int:
        """As time.monotonic_ns."""
        self.mono_ns += self.random.choice((1, 1000, 10**6))
        return self.mono_ns

    def time_ns(self) -> int:
        """As time.time_ns; it jumps within a boot, too."""
        if self.random.random() < 0.1:
            self.wall_ns += self.random.choice((-1, 1)) * self.random.randrange(10**15)
        return self.wall_ns

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Code that looks at a clock, or for the boot's id, sees these."""
        with ExitStack() as stack:
            for name in ("monotonic_ns", "time_ns"):
                stack.enter_context(mock.patch.object(time, name, getattr(self, name)))
            for module in (boots, intake, feed, tail, views):
                stack.enter_context(mock.patch.object(module, "boot_id", return_value=self.boot))
            yield
