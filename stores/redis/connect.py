"""Clients of redis-py for an address, and what has to be known of a server before it is used."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from livingai.errors import StoreFormatError
from livingai.stores.redis.url import RedisAddress

_OLDEST: Final = (6, 2)
_log = logging.getLogger("livingai.stores")
#: Addresses that this process has warned of.
_warned: set[str] = set()


def connect(address: RedisAddress, timeout_s: float) -> Any:
    """A client; nothing is sent yet to a single server. Raises errors of redis-py."""
    import redis  # noqa: PLC0415 - no driver before the store is used
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    # Only a connection that the server has closed meanwhile is tried again, once. After a timeout
    # the server may still be at work on what was sent; the service sends it again later.
    settings: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }
    retry = Retry(NoBackoff(), 1, (redis.ConnectionError,))
    if address.kind == "cluster":
        from redis.cluster import ClusterNode, RedisCluster  # noqa: PLC0415

        node: Any = ClusterNode
        others = [node(host, port) for host, port in address.hosts[1:]]
        return RedisCluster(url=address.secret_url, startup_nodes=others, retry=retry, **settings)
    settings["retry"] = retry
    if address.kind == "sentinel":
        return _sentinel(address, settings)
    return redis.Redis.from_url(address.secret_url, **settings)


def _sentinel(address: RedisAddress, settings: dict[str, Any]) -> Any:
    from redis import connection, sentinel  # noqa: PLC0415

    untyped: Any = connection
    sentinel_class: Any = sentinel.Sentinel
    known: dict[str, Any] = untyped.parse_url(address.secret_url)
    for name in ("host", "port"):
        known.pop(name, None)
    if known.pop("connection_class", None) is connection.SSLConnection:
        known["ssl"] = True
    about = {name: value for name, value in {**known, **settings}.items() if name != "db"}
    for name in ("username", "password", "retry"):
        about.pop(name, None)
    sentinels = sentinel_class(
        list(address.hosts), sentinel_kwargs={**about, **address.sentinel}, **{**known, **settings}
    )
    client = sentinels.master_for(address.service)
    client.sentinels = sentinels.sentinels  # closed with it
    return client


# --- what a server is ----------------------------------------------------------------------------


def check_server(client: Any, address: RedisAddress, *, wants_waitaof: bool) -> None:
    """See that this server can do what livingai needs, and warn of what would lose data.

    Raises:
        StoreFormatError: too old, a sentinel, or a cluster node addressed as a single server.
        redis.RedisError: as it comes.
    """
    import redis  # noqa: PLC0415 - no driver before the store is used

    where = address.public_url
    try:
        hello = _pairs(client.execute_command("HELLO"))
    except redis.ResponseError as error:
        if "unknown command" not in str(error):
            raise
        raise StoreFormatError(
            f"{where} is older than Redis 6.2 (it has no HELLO); livingai needs Redis 6.2 or Valkey"
        ) from None
    name, version, mode = (hello.get(key, "") for key in ("server", "version", "mode"))
    number = version_number(version)
    if name == "redis" and number < _OLDEST:
        raise StoreFormatError(f"{where} is Redis {version}; livingai needs Redis 6.2 or Valkey")
    if wants_waitaof and name == "redis" and number < (7, 2):
        raise StoreFormatError(
            f"{where} is Redis {version}; wait_aof needs 7.2: leave it out, or use wait_replicas"
        )
    if mode == "sentinel":
        raise StoreFormatError(f"{where} is a sentinel; use redis+sentinel://HOST:PORT/SERVICE")
    if mode == "cluster" and address.kind != "cluster":
        raise StoreFormatError(
            f"{where} is part of a cluster; write redis+cluster:// (rediss+cluster://) instead"
        )
    _warn(client, where)


def version_number(text: str) -> tuple[int, ...]:
    """``7.2.4`` as numbers; what is no number ends it."""
    found = []
    for part in text.split("."):
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def _pairs(reply: Any) -> dict[str, str]:
    """A map, which RESP 2 sends as a flat list."""
    if not isinstance(reply, Mapping):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    return {_text(key): _text(value) for key, value in reply.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _warn(client: Any, where: str) -> None:
    """Say once what this server's settings mean. Needs rights that a user may lack."""
    import redis  # noqa: PLC0415 - no driver before the store is used

    if where in _warned:
        return
    _warned.add(where)
    try:
        memory: Any = client.info("memory")
        persistence: Any = client.info("persistence")
    except redis.ResponseError:
        return
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        _log.warning(
            "%s may evict livingai's keys (maxmemory-policy %s): use noeviction, or this server as "
            "the hot tier of a TieredStore",
            where, policy,
        )  # fmt: skip
    if not persistence.get("aof_enabled"):
        _log.warning(
            "%s keeps no append-only file (appendonly no): a crash of the server loses what it has "
            "stored since its last snapshot",
            where,
        )


def value_limit(client: Any, otherwise: int) -> int:
    """Most bytes that one value may have; half of what one command may have, if that is less."""
    import redis  # noqa: PLC0415 - no driver before the store is used

    limit = otherwise
    for name, share in (("proto-max-bulk-len", 1), ("client-query-buffer-limit", 2)):
        try:
            found: Any = client.config_get(name)
            limit = min(limit, int(found[name]) // share)
        except (redis.ResponseError, KeyError, ValueError):
            continue  # not permitted: then the default holds
    return limit
