"""Redis and Valkey: one server, a cluster, or what sentinels name."""

from livingai.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
