"""The store: can it be reached, of which version is it, and what time has it?"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from livingai.errors import (
    ConfigurationError,
    LivingAIError,
    StoreAuthenticationError,
    StoreDamagedError,
    StoreFormatError,
    StoreUnavailableError,
)
from livingai.inspection.doctor.ailment import Examination, Grade
from livingai.stores.base import Store

#: Seconds by which two clocks may differ.
_APART_S: Final = 5.0
_TIMEOUT_S: Final = 5.0


def examine_store(found: Examination, store: Store, named: str) -> None:
    """Open the store as ``livingai list`` does, and ask it for version and time."""
    found.facts["store"] = store.url
    try:
        store.validate()
        store.open()
    except (LivingAIError, ImportError) as error:
        found.find(*_why(error, named))
        return
    finally:
        store.close()
    try:
        version, apart = _asked(store)
    except Exception as error:  # drivers have no common base; the store itself has answered
        found.find(
            "store-version", Grade.NOTE, f"the store does not say its version: {error}",
            "livingai works all the same", "",
        )  # fmt: skip
        return
    found.facts["store version"] = version
    if apart is not None and abs(apart) > _APART_S:
        found.find(
            "clock-apart", Grade.WARNING,
            f"the store's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} "
            "this machine's", "times in the store come from the machines that save, and those of "
            "several machines do not compare", "timedatectl set-ntp true (on both)",
        )  # fmt: skip


def _why(error: Exception, named: str) -> tuple[str, Grade, str, str, str]:
    what, grade = str(error), Grade.ERROR
    waits = "saves are accepted and wait in the journals; when these are full, saves wait"
    if isinstance(error, StoreAuthenticationError):
        return "store-refuses", grade, what, waits, "give the service the right user and password"
    if isinstance(error, StoreDamagedError):
        return "store-damaged", grade, what, waits, f"livingai check --store {named}"
    if isinstance(error, StoreFormatError):
        return "store-format", grade, what, waits, "upgrade livingai, or name another store"
    if isinstance(error, ConfigurationError | ImportError):
        return "store-driver", grade, what, "the store cannot be opened here", "see the message"
    if isinstance(error, StoreUnavailableError):
        return "store-away", grade, what, waits, "start the database, or mend the network to it"
    return "store", grade, what, waits, "see the message"


def _asked(store: Store) -> tuple[str, float | None]:
    """Its version, and by how many seconds its clock is ahead of ours; None: it has none of its
    own."""
    spec = store.spec()
    kind = spec.path.rpartition(":")[2]
    ask = {"SQLiteStore": _sqlite, "RedisStore": _redis, "PostgresStore": _postgres}.get(kind)
    return ask(spec.kwargs) if ask is not None else (kind, None)


def _sqlite(_settings: dict[str, Any]) -> tuple[str, None]:
    import apsw  # noqa: PLC0415 - no driver before it is needed

    return f"SQLite {apsw.sqlite_lib_version()}", None


def _redis(settings: dict[str, Any]) -> tuple[str, float]:
    from livingai.stores.redis.connect import connect  # noqa: PLC0415
    from livingai.stores.redis.url import parse  # noqa: PLC0415

    with contextlib.closing(
        connect(parse(settings["url"], settings.get("prefix", "")), _TIMEOUT_S)
    ) as client:
        about = client.info("server")
        before = time.time()
        seconds, micros = client.time()
        now = (before + time.time()) / 2
    about = about if "redis_version" in about else next(iter(about.values()))
    name = "Valkey" if "valkey_version" in about else "Redis"
    version = about.get("valkey_version") or about["redis_version"]
    return f"{name} {version}", seconds + micros / 1e6 - now


def _postgres(settings: dict[str, Any]) -> tuple[str, float]:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(settings["url"], connect_timeout=round(_TIMEOUT_S)) as connection:
        before = time.time()
        row = connection.execute(
            "select extract(epoch from clock_timestamp())::float8, "
            "current_setting('server_version')"
        ).fetchone()
        now = (before + time.time()) / 2
    assert row is not None, "a select without from has one row"
    return f"PostgreSQL {row[1]}", row[0] - now
