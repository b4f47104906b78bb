"""One connection to a PostgreSQL server: opened when it is needed, given up when in doubt.

Rules:

1. What is one statement is sent as one, and is a transaction by itself. Several are one round trip
   too: BEGIN, settings, statements and COMMIT are sent together (pipeline mode), then the answers
   are read. What a transaction needs is ``SET LOCAL``, so that PgBouncer in transaction mode
   serves; for the same reason nothing is prepared by name.
2. Every wait has an end: after ``statement_timeout_ms`` the statement is cancelled, and if the
   server says nothing even then, the connection is closed :data:`GRACE_S` later.
3. After an error the connection is rolled back if it can be, else closed; the next call opens a new
   one. An answer that got lost may be that of a COMMIT: the caller sends the same batch again,
   which changes nothing if it was stored.
4. Every error leaves this module as one of livingai's, without credentials.
5. The server looks whether our machine is still there (:data:`_LOOK_AFTER_US`). If that dies in the
   midst of a transaction, the server waits for the rest of it, and holds its locks meanwhile: two
   hours, if its system decides, in which no other machine can take these executions over.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from livingai.errors import StoreError, StoreUnavailableError
from livingai.stores.postgres.address import PostgresAddress
from livingai.stores.postgres.arrays import Array, ArrayDumper
from livingai.stores.postgres.errors import translate

T = TypeVar("T")
Statement = tuple[str, Sequence[Any]]
Run = Callable[..., list[Any]]

#: How much longer than ``statement_timeout_ms`` a server may be silent.
GRACE_S: Final = 5.0
#: The server is to end a session whose client's machine has not answered for 25 s, see rule 5. (A
#: client that is only stopped answers: its kernel does. That is why ``tcp_user_timeout`` is not
#: set, which ends a session that does not read either.) Not through a pooler, whose connection is
#: for others, too: it gives out numbers of its own, so nothing is set there.
_LOOK_AFTER_US: Final = (
    "SELECT set_config('tcp_keepalives_idle', '10', false), "
    "set_config('tcp_keepalives_interval', '5', false), "
    "set_config('tcp_keepalives_count', '3', false) WHERE pg_backend_pid() = %s"
)


class _Connection(psycopg.Connection[Any]):
    """A connection whose waits end; see :meth:`allow`."""

    _deadline = float("inf")
    _cancelled = False

    def allow(self, seconds: float) -> None:
        """What is waited for from now on is cancelled after this time."""
        self._deadline = time.monotonic() + seconds
        self._cancelled = False

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        return super().wait(self._until_deadline(gen), *args, **kwargs)

    def _until_deadline(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self._deadline:
                    self._give_up()
                wanted = gen.send(ready)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _give_up(self) -> None:
        """First cancel, and wait for the answer; then close."""
        if self._cancelled:
            self.pgconn.finish()
            raise psycopg.OperationalError("the server has not answered in time")
        self.allow(GRACE_S)
        self._cancelled = True
        with contextlib.suppress(psycopg.Error):
            self.cancel_safe(timeout=GRACE_S)


class Session:
    """A connection to ``address`` that opens itself; ``prepare`` is called with each new one."""

    def __init__(
        self,
        address: PostgresAddress,
        *,
        connect_timeout_s: float,
        statement_timeout_ms: int,
        synchronous_commit: str | None,
        prepare: Callable[[Session], None],
    ) -> None:
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = statement_timeout_ms / 1000
        self._in_one = synchronous_commit is None
        timeout = str(statement_timeout_ms)
        settings = {"statement_timeout": timeout, "idle_in_transaction_session_timeout": timeout}
        if synchronous_commit is not None:
            settings["synchronous_commit"] = synchronous_commit
        calls = ", ".join(["set_config(%s, %s, true)"] * len(settings))
        self._settings: Statement = (f"SELECT {calls}", list(chain(*settings.items())))
        self._prepare = prepare
        self._connection: _Connection | None = None
        self._pid = 0

    # -- life --

    def open(self) -> None:
        """Connect and prepare; does nothing on an open connection.

        Raises:
            StoreUnavailableError: the server cannot be reached for now.
            StoreError: it can, and refuses.
        """
        if self._connection is not None:
            if self._pid != os.getpid():
                raise StoreError(
                    f"{self._address.shown} was opened before a fork; a connection cannot be used "
                    "on both sides. Build the store in the process that uses it"
                )
            return
        with self._translated():
            self._connection = _Connection.connect(
                self._address.conninfo,
                autocommit=True,  # BEGIN and COMMIT are ours, see rule 1
                prepare_threshold=None,
                connect_timeout=max(2, round(self._connect_timeout_s)),
                fallback_application_name="livingai",
                client_encoding="utf8",
            )
        self._pid = os.getpid()
        self._connection.adapters.register_dumper(Array, ArrayDumper)
        try:
            self._prepare(self)
            self._have_us_looked_after()
        except BaseException:
            self.close()
            raise

    def _have_us_looked_after(self) -> None:
        """See rule 5. A server that does not know how does without."""
        assert self._connection is not None
        try:
            self.read(_LOOK_AFTER_US, (self._connection.info.backend_pid,))
        except StoreError as error:
            if isinstance(error, StoreUnavailableError):
                raise

    def close(self) -> None:
        """Disconnect. Idempotent; in a fork's child it only forgets the connection."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._pid != os.getpid():
            _leaked.append(connection)  # closing it would end the parent's session
            return
        with contextlib.suppress(psycopg.Error):
            connection.close()

    # -- use --

    def run(self, *statements: Statement) -> list[list[Any]]:
        """Run ``statements`` in one transaction and one round trip; the rows of each.

        Raises:
            StoreUnavailableError: nothing was changed, or it is not known; try again.
            RecordRefusedError: a value cannot be stored; nothing was changed.
        """
        connection = self._ready()
        with self._guarded(connection):
            if len(statements) == 1 and self._in_one:
                query, arguments = statements[0]
                return [_execute(connection, query, arguments).fetchall()]
            sent = (("BEGIN", ()), self._settings, *statements, ("COMMIT", ()))
            with connection.pipeline():
                cursors = [_execute(connection, *statement) for statement in sent]
            if cursors[-1].statusmessage != "COMMIT":
                raise StoreUnavailableError(
                    f"{self._address.shown}: the transaction was rolled back"
                )
            return [cursor.fetchall() for cursor in cursors[2:-1]]

    def read(self, query: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """All rows of one query."""
        return self.run((query, arguments))[0]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Run]:
        """A transaction step by step, for what is rare; ``run(query, arguments)`` gives rows."""
        connection = self._ready()

        def run(query: str, arguments: Sequence[Any] = ()) -> list[Any]:
            connection.allow(self._timeout_s)
            cursor = _execute(connection, query, arguments)
            return cursor.fetchall() if cursor.description else []

        with self._guarded(connection):
            run("BEGIN")
            run(*self._settings)
            yield run
            run("COMMIT")

    @contextlib.contextmanager
    def savepoint(self, run: Run) -> Iterator[None]:
        """A part of a :meth:`transaction` that is taken back alone if it fails.

        Raises:
            RecordRefusedError: it was taken back; the transaction goes on.
        """
        run("SAVEPOINT one")
        try:
            with self._translated():
                yield
        except StoreError:
            with contextlib.suppress(psycopg.Error):  # a connection that broke
                run("ROLLBACK TO one")
            raise
        run("RELEASE one")

    def _ready(self) -> _Connection:
        self.open()
        connection = self._connection
        assert connection is not None
        connection.allow(self._timeout_s)
        return connection

    @contextlib.contextmanager
    def _guarded(self, connection: _Connection) -> Iterator[None]:
        """Translate errors, and leave the connection fit for use, or closed."""
        try:
            with self._translated():
                yield
        except BaseException as error:
            if isinstance(error, StoreUnavailableError) or not self._rolled_back(connection):
                self.close()
            raise

    @staticmethod
    def _rolled_back(connection: _Connection) -> bool:
        if not _is_idle(connection):
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
        return _is_idle(connection)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            ours = translate(error, self._address.shown, self._address.secrets)
            shown = any(secret in str(error) for secret in self._address.secrets)
            raise ours from (None if shown else error)


#: Connections that a fork made unusable; kept so that no destructor closes them.
_leaked: list[Any] = []


def _is_idle(connection: _Connection) -> bool:
    return connection.info.transaction_status == TransactionStatus.IDLE


def _execute(
    connection: _Connection, query: str, arguments: Sequence[Any] = ()
) -> psycopg.Cursor[Any]:
    # psycopg asks for literal strings; ours are built from constants and a checked schema name.
    # Several statements in one text (a migration) are for the simple protocol only.
    return connection.execute(query.encode(), arguments or None, binary=bool(arguments))
