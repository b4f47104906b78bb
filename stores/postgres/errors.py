"""PostgreSQL's errors as livingai's, distinguished by what helps.

The service retries :class:`StoreUnavailableError` by itself, quarantines the row of a
:class:`RecordRefusedError`, and shows every other :class:`StoreError` until a person has helped.
An error while connecting has no SQLSTATE (libpq keeps it to itself), so its text decides; one that
is not recognised (another language) counts as passing trouble and is shown as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import psycopg

from livingai.errors import (
    RecordRefusedError,
    StoreAuthenticationError,
    StoreError,
    StoreFormatError,
    StoreMissingError,
    StoreUnavailableError,
)

#: SQLSTATEs by their beginning, the longer ones first; https://www.postgresql.org/docs/current/
#: errcodes-appendix.html. Tables and functions that are gone are made again at the next connect.
_CLASSES: Final[tuple[tuple[str, type[StoreError], str], ...]] = (
    ("28", StoreAuthenticationError, "check user name and password"),
    ("42501", StoreAuthenticationError, "GRANT the rights, or name a schema of its own"),
    ("3D000", StoreMissingError, "CREATE DATABASE it, or correct the URL"),
    ("42P01", StoreUnavailableError, "the tables are gone and will be made again"),
    ("42883", StoreUnavailableError, "the functions are gone and will be made again"),
    ("3F000", StoreUnavailableError, "the schema is gone and will be made again"),
    ("42", StoreFormatError, "the schema holds something else under one of livingai's names"),
    ("53100", StoreUnavailableError, "the server's disk is full; free space"),
    ("53300", StoreUnavailableError, "too many connections; raise max_connections or pool them"),
    ("57014", StoreUnavailableError, "statement_timeout"),
    ("25006", StoreUnavailableError, "the server is read-only, perhaps a standby"),
    ("XX001", StoreFormatError, "the database is damaged; restore a backup"),
    ("XX002", StoreFormatError, "the database is damaged; restore a backup"),
    ("22", RecordRefusedError, ""),
    ("23", RecordRefusedError, ""),
    ("54", RecordRefusedError, ""),
    # Connection lost, transaction state, rollbacks, resources, locks, operator, system.
    *((code, StoreUnavailableError, "") for code in ("08", "25", "40", "53", "55", "57", "58")),
)

#: What libpq says of a connection that was not made.
_TEXTS: Final[tuple[tuple[str, type[StoreError], str], ...]] = (
    (
        (
            r"password authentication failed|no password supplied|no pg_hba\.conf entry|"
            r'role ".*" does not exist|authentication failed|not permitted to log in|'
            r"permission denied for database|certificate|no such user"
        ),
        StoreAuthenticationError,
        "check user name, password and rights",
    ),
    (
        r'database ".*" does not exist|no such database',
        StoreMissingError,
        "CREATE DATABASE it, or correct the URL",
    ),
)


def translate(error: psycopg.Error, place: str, secrets: Iterable[str] = ()) -> StoreError:
    """``error``, raised by the server at ``place`` (a redacted URL), as one of livingai's."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    kind, advice = _classify(error, text)
    parts = [f"{place}: {text}"]
    if error.sqlstate:
        parts.append(f" (SQLSTATE {error.sqlstate})")
    if advice:
        parts.append(f"; {advice}")
    return kind("".join(parts))


def _classify(error: psycopg.Error, text: str) -> tuple[type[StoreError], str]:
    state = error.sqlstate
    if state:
        for code, kind, advice in _CLASSES:
            if state.startswith(code):
                return kind, advice
        return StoreError, ""
    for pattern, kind, advice in _TEXTS:
        if re.search(pattern, text):
            return kind, advice
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return StoreUnavailableError, ""  # a connection that broke, or was not made
    if isinstance(error, psycopg.DataError):
        return RecordRefusedError, ""  # what psycopg itself cannot send
    return StoreError, ""
