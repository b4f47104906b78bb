"""The database file of an SQLite store: one connection, its settings, its errors, its WAL.

Rules:

1. ``synchronous=FULL``: in WAL mode it makes COMMIT wait for an fsync of the log. With NORMAL a
   power loss may take back transactions that we have called stored.
2. Every SQLite error leaves this module as one of livingai's. Transient trouble is
   :class:`StoreUnavailableError`, a row that can never be stored :class:`RecordRefusedError`.
3. After an I/O error, and when someone removed or replaced the files under us, the connection is
   closed and the next call opens a new one. Writing on would go into files that have no name.
   A log without a name can still be read by a process that has it open, so it is copied into the
   database first. What was committed while that happened is not called stored. A log that a removed
   database has left does not belong to the next one; see :mod:`.leftovers`.
4. SQLite notices damage only in pages that it reads, and a connection has many in memory. So a
   writer goes on in a file that others find damaged; :meth:`DatabaseFile.examine` is for that. The
   log of a file that it finds damaged is not copied back: it may be all that is left. Our
   connection stays open meanwhile: with the last one goes the log's index, and a damaged log that
   is read without it just ends sooner, as if what is in it had never been stored.
5. The log is copied back every :data:`CHECKPOINT_BYTES`; see :mod:`.space` for its bounds.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from livingai.errors import (
    CorruptRowError,
    StoreDamagedError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.failpoint import failpoint
from livingai.stores.sqlite.errors import check_place, translated
from livingai.stores.sqlite.examination import look_through
from livingai.stores.sqlite.leftovers import own_log
from livingai.stores.sqlite.schema import PAGE_BYTES, migrate, schema_version
from livingai.stores.sqlite.space import LogTruncation

if TYPE_CHECKING:
    import apsw

T = TypeVar("T")

#: Copying 4 MB takes about 5 ms of the commit that does it; larger steps make rare commits much
#: slower (32 MB: 80 ms) and store no more MB/s.
CHECKPOINT_BYTES: Final = 4 << 20
#: Enough that a batch of large checkpoints is written to the log once, at its commit.
CACHE_BYTES: Final = 16 << 20

_log = logging.getLogger(__name__)


class DatabaseFile:
    """A connection to the file at ``path`` (absolute) that opens itself when it is needed."""

    def __init__(
        self, path: str, *, busy_timeout_ms: int, wal_limit_bytes: int, synchronous: str
    ) -> None:
        self.path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._wal_limit_bytes = wal_limit_bytes
        self._synchronous = synchronous
        self._connection: apsw.Connection | None = None
        self._pid = 0
        self._files: list[tuple[int, int] | None] = []
        self._log = LogTruncation(path)
        #: It was found damaged: the log is not copied into it.
        self._damaged = False
        #: The log and index that are still there, of a database that is not; for no other database.
        self._lost: list[tuple[int, int] | None] = []
        #: How many times the file was opened again. Another one may be there each time, even with
        #: the inode number of the one before.
        self.replacements = 0

    # -- life --

    def open(self) -> None:
        """Connect, and create or migrate the schema; does nothing on an open file.

        Raises:
            StoreFormatError: the file is no database, a newer schema, or another application's.
            StoreUnavailableError: another process keeps it locked, or the disk fails.
            StoreError: there is no such directory, or it is read-only.
        """
        if self._connection is not None:
            self._refuse_after_fork()
            return
        check_place(self.path)
        with own_log(self.path, self._lost), translated(self.path):
            connection = connect(self.path, self._busy_timeout_ms)
            try:
                # Before anything is changed: the file may not be ours.
                fresh = schema_version(connection, self.path) == 0
                self._configure(connection, fresh)
                migrate(connection, self.path)
            except BaseException:
                connection.close(True)
                raise
        self.replacements += bool(self._files)
        self._files = [identity for identity, _ in self._look()]
        self._connection, self._pid, self._lost = connection, os.getpid(), []
        self._damaged = False

    def close(self, *, fold: bool = True) -> None:
        """Disconnect; as the last connection this also copies the log into the database, unless
        that was found damaged or ``fold`` is False."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        import apsw  # noqa: PLC0415 - no driver before the store is used

        if self._pid != os.getpid():
            _leaked.append(connection)  # closing it here would pull the log from under the parent
            return
        now = [identity for identity, _ in self._look()]
        if now[0] != self._files[0]:  # SQLite leaves a log whose database was removed
            self._lost = [each for each in now[1:] if each in self._files[1:]]
        try:
            if self._damaged or not fold:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close(True)
        except Exception as error:  # what is committed is committed
            _log.warning("closing %s: %s", self.path, error)

    def _configure(self, connection: apsw.Connection, fresh: bool) -> None:
        import apsw  # noqa: PLC0415 - no driver before the store is used

        if fresh:  # both have no effect on a database that has pages already
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("auto_vacuum", 2)  # incremental: pruning can give space back
        self._switch_to_wal(connection)
        page_bytes: int = connection.pragma("page_size")
        connection.pragma("synchronous", self._synchronous)
        connection.pragma("fullfsync", 1)  # macOS: fsync alone leaves data in the drive's cache
        connection.pragma("checkpoint_fullfsync", 1)
        connection.pragma("cache_size", -CACHE_BYTES // 1024)
        # Else each statement is parsed again for each row: this SQLite plans by samples of values
        # (STAT4), so that another value drops the plan. We keep no such samples.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        connection.pragma("temp_store", 2)  # memory: a full /tmp shall not stop us
        connection.pragma("wal_autocheckpoint", max(1, CHECKPOINT_BYTES // page_bytes))
        connection.pragma("journal_size_limit", self._wal_limit_bytes)

    def _switch_to_wal(self, connection: apsw.Connection) -> None:
        import apsw  # noqa: PLC0415 - no driver before the store is used

        deadline = time.monotonic() + self._busy_timeout_ms / 1000
        mode = None
        while mode is None:
            try:
                mode = connection.pragma("journal_mode", "wal")
            except apsw.BusyError:  # SQLite does not wait here by itself
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)  # nor does it announce that the other one is done
        if mode != "wal":
            raise StoreError(
                f"SQLite cannot keep a write-ahead log beside {self.path} (it answered {mode!r}); "
                "use a file on a local disk"
            )

    # -- use --

    def read(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        """All rows that ``sql`` gives. No snapshot stays open behind the answer."""
        connection = self._ready()
        with translated(self.path):
            try:
                return connection.execute(sql, bindings).fetchall()
            except UnicodeDecodeError as error:
                raise CorruptRowError(
                    f"{self.path} holds a text that is not UTF-8 ({error}); another program wrote "
                    "it, or the file is damaged"
                ) from error
            except BaseException as error:
                self._after(error, connection)
                raise

    def transaction(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run ``work`` holding the write lock and commit what it did, durably; all or nothing."""
        connection = self._ready()
        with translated(self.path):
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                failpoint("sqlite.before_commit")
                connection.execute("COMMIT")
            except BaseException as error:
                self._after(error, connection)
                raise
        failpoint("sqlite.after_commit")
        if self.let_go():  # written again it is in the database's file now, or changes nothing
            raise StoreUnavailableError(
                f"{self.path} or its log was removed or replaced while it was written to; try again"
            )
        return result

    def let_go(self) -> bool:
        """Close the file if it is not the one that its name leads to any more, or its log; whether
        that was so. For an idle process, too: an open index is in the way of others."""
        if self._connection is None or self._pid != os.getpid():
            return False
        return self._let_go(self._connection, self._look())

    def _let_go(
        self, connection: apsw.Connection, files: list[tuple[tuple[int, int] | None, int]]
    ) -> bool:
        """As :meth:`let_go`, by what is there now."""
        if [identity for identity, _ in files] == self._files:
            return False
        if not self._damaged:
            self._rescue(connection, files)
        self.close()
        return True

    def examine(self) -> None:
        """Look through our tables, without the pages that this process has in memory, and open the
        file anew if they are sound.

        Raises:
            StoreDamagedError: they are not; nothing was written.
            StoreUnavailableError: it cannot be looked at now.
        """
        if self._connection is not None:
            self._refuse_after_fork()
            if [identity for identity, _ in self._look()] != self._files:
                self.close(fold=False)
        if not self._look()[0][1]:  # else it would be made, where a copy is to come
            raise StoreUnavailableError(
                f"there is no database at {self.path} any more, after it was found damaged: put a "
                "copy in its place, or restart the service"
            )
        try:
            with own_log(self.path, self._lost), translated(self.path):
                look_through(self.path, self._busy_timeout_ms)
        except StoreDamagedError:
            self._damaged = True
            raise
        self._damaged = False
        self.close()
        self._ready()

    def fold_log(self) -> None:
        """Copy the log back and cut both files down to what is in use, unless a reader is in the
        way: then a later checkpoint does it."""
        connection = self._ready()
        self._log.truncate(connection, self._look()[1][1], self._busy_timeout_ms)

    def place(self) -> str:
        """The file's identity as text, whatever links lead to it."""
        status = os.stat(self.path)
        return f"file:{status.st_dev}:{status.st_ino}"

    def size_bytes(self) -> int:
        """Bytes of the database, its log and the log's index."""
        return sum(size for _, size in self._look())

    def _after(self, error: BaseException, connection: apsw.Connection) -> None:
        """Bring the connection back to where it can be used, or give it up."""
        import apsw  # noqa: PLC0415 - no driver before the store is used

        broken = (apsw.IOError, apsw.CantOpenError, apsw.CorruptError, apsw.NotADBError)
        try:
            if not connection.get_autocommit():
                connection.execute("ROLLBACK")
        except apsw.Error:
            self.close()
        if isinstance(error, broken):
            self.close()

    def _ready(self) -> apsw.Connection:
        """A connection to the files that are there now."""
        if self._connection is not None:
            self._refuse_after_fork()
            files = self._look()
            log_bytes = 0 if self._let_go(self._connection, files) else files[1][1]
            if self._connection is not None and log_bytes > self._wal_limit_bytes:
                self._log.truncate(self._connection, log_bytes, self._busy_timeout_ms)
        if self._connection is None:
            try:
                self.open()
            except StoreFormatError:
                raise
            except StoreError as error:
                raise StoreUnavailableError(str(error)) from error
        assert self._connection is not None
        return self._connection

    def _rescue(
        self, connection: apsw.Connection, files: list[tuple[tuple[int, int] | None, int]]
    ) -> None:
        """Save what only the log has, if that log has lost its name; see rule 3.

        Where another process has begun to write a new log it is too late: the two cannot be merged.
        While it shares our index it cannot: it misses what the index says is there.
        """
        import apsw  # noqa: PLC0415 - no driver before the store is used

        _log.warning("%s or its -wal or -shm was removed or replaced; reopening it", self.path)
        (database, _), (log, log_bytes), (index, _) = files
        only_ours = log in (None, self._files[1]) or (not log_bytes and index == self._files[2])
        if database == self._files[0] and only_ours:
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error as error:
                _log.error("what was only in %s-wal is lost: %s", self.path, error)

    def _refuse_after_fork(self) -> None:
        if self._pid != os.getpid():
            raise StoreError(
                f"{self.path} was opened before a fork; SQLite cannot be used on both sides. Build "
                "the store in the process that uses it"
            )

    def _look(self) -> list[tuple[tuple[int, int] | None, int]]:
        """Identity (None: not there) and size in bytes of database, log and log index."""
        found: list[tuple[tuple[int, int] | None, int]] = []
        for suffix in ("", "-wal", "-shm"):
            try:
                status = os.stat(self.path + suffix)
                found.append(((status.st_dev, status.st_ino), status.st_size))
            except OSError:
                found.append((None, 0))
        return found


#: Connections that a fork made unusable; kept so that no destructor closes them.
_leaked: list[Any] = []


def connect(
    path: str, busy_timeout_ms: int, *, create: bool = True, alone: bool = False
) -> apsw.Connection:
    """A bare connection; raises SQLite's own errors. ``alone``: only to look, at nothing but the
    file itself, as the log beside it is not its own."""
    import apsw  # noqa: PLC0415 - no driver before the store is used

    if alone:
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        connection = apsw.Connection(f"file:{quote(path)}?immutable=1", flags=flags)
    else:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = apsw.Connection(path, flags=flags)
    connection.set_busy_timeout(busy_timeout_ms)
    return connection
