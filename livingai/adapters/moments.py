"""Ids that sort by when they were made, on any number of machines.

A moment is the time in nanoseconds (16 hex digits), a hyphen, and 8 random hex digits. What is made
after another one was seen sorts behind it, however wrong this machine's clock is: each moment is
above all that this object has made or was shown (a hybrid logical clock). So of two entries the one
that was written in knowledge of the other is the newer one. Entries of which neither knew the other
are ordered by the clocks of their machines.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from typing import Final

from livingai.errors import CorruptRowError

#: Length of a moment (characters, ASCII).
MOMENT_CHARS: Final = 25
#: The first digit leaves room, so that there is a moment above any.
_MOMENT: Final = re.compile(r"([0-9a-e][0-9a-f]{15})-[0-9a-f]{8}")


class Moments:
    """Makes moments. Thread-safe; a forked child may go on with its copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ns = 0

    def next(self) -> str:
        """A moment above all earlier ones of this object."""
        with self._lock:
            self._last_ns = last_ns = max(self._last_ns + 1, time.time_ns())
        return f"{last_ns:016x}-{secrets.token_hex(4)}"

    def saw(self, moment: str) -> None:
        """From now on be above ``moment``.

        Raises:
            CorruptRowError: it is none.
        """
        found = _MOMENT.fullmatch(moment)
        if found is None:
            raise CorruptRowError(
                f"an entry ends in {moment[:100]!r}, which is no moment: another program has "
                "written it. Remove that node, or delete the execution"
            )
        with self._lock:
            self._last_ns = max(self._last_ns, int(found[1], 16))
