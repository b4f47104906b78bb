"""Settings of a Redis store besides its address, from keywords or from its URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from livingai.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a commit waits for: fsyncs of append-only files (here, on replicas) and replicas that
    have it in memory; 0: nothing."""

    aof_local: int
    aof_replicas: int
    replicas: int
    timeout_ms: int

    def __bool__(self) -> bool:
        return bool(self.aof_local or self.aof_replicas or self.replicas)


@dataclass(frozen=True, slots=True)
class Options:
    """See :class:`~livingai.stores.redis.RedisStore`. What a URL says counts, as with redis-py."""

    prefix: str
    wait_aof: tuple[int, int]
    wait_replicas: int
    wait_timeout_ms: int
    timeout_s: float

    def __post_init__(self) -> None:
        text = self.prefix
        if not isinstance(text, str) or not text or set("{}") & set(text) or not text.isprintable():
            raise ConfigurationError("a Redis prefix is printable text without braces")
        numbers = (*self.wait_aof, self.wait_replicas, self.wait_timeout_ms)
        if len(self.wait_aof) != 2 or not all(type(item) is int and item >= 0 for item in numbers):
            raise ConfigurationError(
                "wait_aof is (0 or 1, replicas), wait_replicas and wait_timeout_ms are numbers"
            )
        if self.wait_aof[0] > 1:
            raise ConfigurationError("the first number of wait_aof is 0 or 1: the server itself")
        if not isinstance(self.timeout_s, (int, float)) or not 0 < self.timeout_s <= 600:
            raise ConfigurationError("timeout_s must be above 0 and at most 600")
        if not 1 <= self.wait_timeout_ms < self.timeout_s * 1000:
            raise ConfigurationError("wait_timeout_ms must be shorter than timeout_s")

    def with_text(self, given: Mapping[str, str]) -> Options:
        """These settings, with those that a URL gives.

        Raises:
            ConfigurationError: a value there is not a valid one.
        """
        return replace(self, **{name: _value(name, text) for name, text in given.items()})

    def waiting(self) -> Waiting:
        """What a commit waits for."""
        return Waiting(*self.wait_aof, self.wait_replicas, self.wait_timeout_ms)

    def plain(self) -> dict[str, Any]:
        """As keyword arguments, plain values only."""
        return {**asdict(self), "wait_aof": list(self.wait_aof)}


def _value(name: str, text: str) -> Any:
    try:
        if name == "wait_aof":
            return tuple(int(part) for part in text.split(","))
        if name == "prefix":
            return text
        return float(text) if name == "timeout_s" else int(text)
    except ValueError:
        raise ConfigurationError(f"{name} in the Redis URL is {text!r}, not a number") from None
