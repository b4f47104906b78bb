"""How an SQLite store stays small: its log under readers, its file after something was removed.

A reader that holds an old snapshot keeps the log from being copied back and starting over. Short
readers that overlap would do that for ever, so once the log is larger than its limit we keep the
write lock for a moment, which lets no new snapshot of the log begin, and wait for the old ones to
end. A reader that is stuck only makes us try again later; the log then has to grow.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import apsw

#: How long we keep the write lock to let readers finish, and how often at most.
TRUNCATE_WAIT_MS: Final = 50
TRUNCATE_INTERVAL_S: Final = 1.0
#: Free pages kept for the next writes, how many the file is cut by at a time (about 15 ms), and how
#: long one call may go on with that; what is left is used by later writes.
SPARE_BYTES: Final = 4 << 20
VACUUM_PAGES: Final = 256
VACUUM_S: Final = 0.2

_log = logging.getLogger(__name__)


class LogTruncation:
    """Cuts the oversized log of the database at ``path`` down, if its readers let us."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._next = 0.0
        self._blocked = False

    def truncate(self, connection: apsw.Connection, log_bytes: int, busy_timeout_ms: int) -> None:
        """Try it, unless it was tried a moment ago. ``busy_timeout_ms`` is the connection's own."""
        import apsw  # noqa: PLC0415 - no driver before the store is used

        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + TRUNCATE_INTERVAL_S
        connection.set_busy_timeout(TRUNCATE_WAIT_MS)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._blocked = False
        except apsw.Error as error:
            if not self._blocked:
                self._blocked = True
                _log.warning(
                    "%s-wal has grown to %d MB: a reader keeps an old snapshot open (%s)",
                    self._path, log_bytes >> 20, error,
                )  # fmt: skip
        finally:
            connection.set_busy_timeout(busy_timeout_ms)


def give_back(read: Callable[[str, tuple[Any, ...]], list[Any]]) -> None:
    """Cut the file down after something was removed from it; ``read`` runs a statement.

    In small steps, so that other writers get their turn in between.
    """
    deadline = time.monotonic() + VACUUM_S
    free = _free_bytes(read)
    while free > SPARE_BYTES and time.monotonic() < deadline:
        read(f"PRAGMA incremental_vacuum({VACUUM_PAGES})", ())
        before, free = free, _free_bytes(read)
        if free >= before:
            return  # a database of another application, without auto-vacuum


def _free_bytes(read: Callable[[str, tuple[Any, ...]], list[Any]]) -> int:
    ((pages,),) = read("PRAGMA freelist_count", ())
    ((page_bytes,),) = read("PRAGMA page_size", ())
    return int(pages * page_bytes)
