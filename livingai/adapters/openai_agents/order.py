"""Ids that sort: by time, and behind everything that this process has read.

An id ends in 16 hexadecimal digits of nanoseconds and 12 random ones. The nanoseconds are those of
the clock, or one more than the greatest that this process has made or met (a hybrid logical clock).
So what is written by somebody who has read an entry sorts behind it, whatever the two machines'
clocks say, and a clock that is set back does not put new entries before old ones. Entries that
nobody had read when the other was written have the same order for every reader.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from typing import Final

from livingai.errors import CorruptRowError

#: What is neither the name of the node's kind nor of its execution.
_SORTABLE: Final = re.compile(r"([0-7][0-9a-f]{15})-[0-9a-f]{12}\Z")


class SortableIds:
    """Makes them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self) -> str:
        """An id that sorts behind all that were made or met before."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:016x}-{secrets.token_hex(6)}"

    def met(self, sortable: str) -> None:
        """An id that was read.

        Raises:
            CorruptRowError: it is none.
        """
        found = _SORTABLE.match(sortable)
        if found is None:
            raise CorruptRowError(
                f"{sortable[:100]!r} is no id that this adapter makes; somebody else has written "
                "to its execution. Remove that node, or delete the execution"
            )
        with self._lock:
            self._last = max(self._last, int(found[1], 16))


#: Those of this process. What a forked child makes differs in the random digits.
IDS: Final = SortableIds()
