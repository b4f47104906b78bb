"""Where a Redis store is: its URL, checked without a driver and without a connection.

A URL may hold a password. Nothing of what is written here into messages, logs, ``repr`` or file
names comes from the part that could: not even a piece of a URL that cannot be parsed, since an
unescaped ``/`` puts the rest of a password where the port should be.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from livingai.errors import ConfigurationError
from livingai.keywords import nearest
from livingai.places import state_home

SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
DEFAULT_PREFIX: Final = "livingai"
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
#: Settings of the store that its URL may hold, so that a URL alone says everything.
OPTIONS: Final = ("prefix", "wait_aof", "wait_replicas", "wait_timeout_ms", "timeout_s")
#: Parameters of redis-py that are named like one of ours.
_REDIS_PY: Final = ("timeout", "socket_timeout", "read_from_replicas")
#: What redis-py would take from a URL, and livingai has to decide itself.
_OURS: Final = ("decode_responses", "encoding", "encoding_errors", "protocol")


@dataclass(frozen=True)
class RedisAddress:
    """A parsed URL. ``secret_url`` is the one for redis-py and holds the credentials; ``query`` is
    what redis-py is given besides, and may hold some, too."""

    kind: str  # "single", "cluster" or "sentinel"
    secret_url: str = field(repr=False)
    public_url: str
    hosts: tuple[tuple[str, int], ...]
    tls: bool
    service: str = ""
    database: int = 0
    sentinel: dict[str, str] = field(default_factory=dict, repr=False)


def split_options(url: str) -> tuple[str, dict[str, str]]:
    """``url`` without the store's own settings, and those.

    Raises:
        ConfigurationError: it is no URL of a Redis store.
    """
    if not isinstance(url, str):
        raise ConfigurationError("a Redis URL is text such as redis://localhost:6379/0")
    base, mark, query = url.partition("?")
    if not mark:
        return url, {}
    pairs = parse_qsl(query, keep_blank_values=True)
    if clash := sorted({name for name, _ in pairs} & set(_OURS)):
        raise ConfigurationError(f"a Redis URL cannot set {', '.join(clash)}; remove it")
    rest = [(name, value) for name, value in pairs if name not in OPTIONS]
    for name, _ in rest:
        # What is no setting of ours is redis-py's to judge, once it connects.
        meant = None if name in _REDIS_PY else nearest(name, OPTIONS)
        if meant is not None:
            raise ConfigurationError(
                f"unknown parameter of a Redis URL: {name}; did you mean {meant!r}? Those of the "
                f"store are {', '.join(OPTIONS)}"
            )
    options = {name: value for name, value in pairs if name in OPTIONS}
    return base + ("?" + urlencode(rest, quote_via=quote) if rest else ""), options


def parse(url: str, prefix: str) -> RedisAddress:
    """Understand a URL (without the store's own settings).

    Raises:
        ConfigurationError: it is no URL of a Redis store; credentials are not in the message.
    """
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ConfigurationError(
            f"a Redis URL begins with one of {', '.join(s + '://' for s in SCHEMES)}"
        )
    parts = urlsplit(url)
    suffix = "" if prefix == DEFAULT_PREFIX else f"?prefix={quote(prefix)}"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if scheme == "unix":
        return _unix(url, unquote(parts.path), query.get("db", "0"), suffix)
    kind = scheme.partition("+")[2] or "single"
    tls = scheme.startswith("rediss")
    credentials, at, netloc = parts.netloc.rpartition("@")
    port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    hosts = tuple(_host(host, port) for host in netloc.split(","))
    if kind == "single" and len(hosts) > 1:
        raise ConfigurationError(
            "a redis:// URL names one server; use redis+cluster:// or redis+sentinel:// for several"
        )
    path = [unquote(piece) for piece in parts.path.split("/") if piece]
    service = ""
    if kind == "sentinel":
        if not path:
            raise ConfigurationError(
                "a sentinel URL names the service: redis+sentinel://host:26379/mymaster/0"
            )
        service = path.pop(0)
    database = _database(path[0] if path else query.get("db", "0"), kind)
    if len(path) > 1:
        raise _unreadable()
    names = ",".join(f"{_bracketed(host)}:{number}" for host, number in hosts)
    tail = f"/{quote(service)}" if service else ""
    tail += "" if kind == "cluster" else f"/{database}"
    sentinel = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    query.pop("db", None)
    first = f"{_bracketed(hosts[0][0])}:{hosts[0][1]}"
    secret = f"redis{'s' if tls else ''}://{credentials}{at}{first}/{database}"
    secret += f"?{urlencode(query, quote_via=quote)}" if query else ""
    public = f"{scheme}://{names}{tail}{suffix}"
    return RedisAddress(kind, secret, public, hosts, tls, service, database, sentinel)


def _unix(url: str, path: str, db: str, suffix: str) -> RedisAddress:
    if not path or path == "/":
        raise ConfigurationError("a unix:// URL names a socket: unix:///run/redis.sock?db=0")
    database = _database(db, "single")
    public = f"unix://{quote(path)}{suffix or '?'}{'&' if suffix else ''}db={database}"
    return RedisAddress("single", url, public, (), False, database=database)


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unreadable() from None
    return unquote(host or "localhost"), port or default_port


def _database(text: str, kind: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text):
        raise _unreadable()
    if kind == "cluster" and int(text):
        raise ConfigurationError("a cluster has only database 0; remove the number from its URL")
    return int(text)


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "the Redis URL cannot be read. It is redis://[user:password@]host[:port][/database]; write "
        "special characters of user and password percent-encoded (/ is %2F, @ is %40)"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def state_directory(address: RedisAddress) -> str:
    """Where journals of agents that use this store are: a readable name and a hash.

    Raises:
        ConfigurationError: this user has no home.
    """
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", address.public_url).strip("-")[:60]
    digest = hashlib.sha256(address.public_url.encode()).hexdigest()[:12]
    return os.path.join(state_home(), f"{readable}-{digest}")
