"""When a client tries again to reach the service, and when it starts it again."""

from __future__ import annotations

import time
from typing import Final

#: Seconds between attempts to reach the service: first, growth, last.
_FIRST_DELAY_S: Final = 0.005
_GROWTH: Final = 1.7
LONGEST_DELAY_S: Final = 1.0
#: The longest while it is probably just starting.
_BOOTING_DELAY_S: Final = 0.05
_BOOTING_S: Final = 2.5
#: A connection that held this long was one to a service that works.
_SOUND_S: Final = 5.0
#: A service that is lost sooner is started again at once, this often.
_AT_ONCE: Final = 3
#: A start that left no living supervisor is repeated after twice this time, then after twice that,
#: ...
_FIRST_RESTART_S: Final = 0.5
_LAST_RESTART_S: Final = 30.0


class Attempts:
    """Counts the attempts of one client. Not thread-safe."""

    def __init__(self) -> None:
        self._short = 0
        self._replaces = False
        #: Whether the service has been started.
        self.tried = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        #: Seconds to wait after the connection was lost.
        self.delay_s = _FIRST_DELAY_S
        self._restart_s = _FIRST_RESTART_S
        self._started_at = -_LAST_RESTART_S  # long ago

    def succeeded(self, lasted_s: float) -> None:
        """The service had answered, and was there for so long: begin anew. One that is lost soon
        after each start is started with a growing delay, as one that does not come at all."""
        self._short = self._short + 1 if lasted_s < _SOUND_S else 0
        if self._short <= _AT_ONCE:
            self._begin_anew()
        self.delay_s = _FIRST_DELAY_S
        if self._replaces:
            self._replaces = False
            self.started()

    def replaces(self) -> None:
        """The connected service has been told to go, and another one to take its place: that one is
        starting once the connection has ended."""
        self._replaces = True

    def start_is_due(self) -> bool:
        """Whether the last start is so long ago that it must have failed."""
        return time.monotonic() - self._started_at >= self._restart_s

    def started(self) -> None:
        """The service is being started."""
        self.tried = True
        self._started_at = time.monotonic()
        self._restart_s = min(self._restart_s * 2, _LAST_RESTART_S)

    def next_delay_s(self) -> float:
        """Seconds to wait after an attempt that failed; they grow."""
        delay_s = self.delay_s
        booting = time.monotonic() - self._started_at < _BOOTING_S
        last = _BOOTING_DELAY_S if booting else LONGEST_DELAY_S
        self.delay_s = min(delay_s * _GROWTH, last)
        return delay_s
