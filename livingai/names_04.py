"""Names of livingai 0.4 that are gone or have another name: what is said to who still uses them.

``docs/MIGRATING.md`` has the same table with examples; a test holds the two together.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from livingai.errors import ConfigurationError

_PAGE: Final = "docs/MIGRATING.md has an example"
#: Of a keyword that there is again, with another meaning (``EngineConfig.metrics``), too.
MEASURED: Final = "the engine measures by itself: engine.sla(), engine.observe(f)"
_ENGINE: Final = {
    "overhead_budget_ms": "budget_ms; a write that takes longer is stored all the same",
    "compressor": 'codec="auto", "zstd", "zlib" or "raw"',
    "hot_capacity": "cache_bytes, in bytes and not in checkpoints",
    "hot_ttl_seconds": "cache_ttl_s",
}
#: By what the keyword was given to: the keyword, and what there is instead.
KEYWORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "CheckpointEngine": _ENGINE,
    "EngineConfig": _ENGINE,
    "RedisStore": {
        "ttl": "retention=Retention(...) of the engine, or `livingai prune`",
        "client": "url; the service's processes connect by themselves",
    },
    "PostgresStore": {
        "dsn": "url",
        "pool": "url; the service's processes connect by themselves",
    },
    "RecoveryEngine": {"checkpoint_engine": "engine", "metrics": MEASURED},
    "ReplaySession": {
        "store": "engine: ReplaySession(engine, execution_id)",
        "metrics": MEASURED,
    },
    "ReplaySession.run": {
        "from_node_id": "node_id",
        "counterfactual": 'node_id=..., overrides={"input": ...}',
    },
}
#: Names that could be imported from ``livingai``.
NAMES: Final[Mapping[str, str]] = {
    "Metrics": MEASURED,
    "HotCache": "the engine's own cache: cache_bytes, cache_ttl_s",
    "Compressor": 'codec="auto", "zstd", "zlib" or "raw" of the engine',
    "NoopCompressor": 'codec="raw" of the engine',
    "ZlibCompressor": 'codec="zlib" of the engine',
    "CheckpointStore": "livingai.stores.base.Store, a contract with more in it",
    "BaseAdapter": "the adapters of docs/frameworks",
    "LangGraphAdapter": "livingai.adapters.langgraph.LivingAISaver",
    "CrewAIAdapter": "livingai.adapters.crewai",
    "OpenAIAgentsAdapter": "livingai.adapters.openai_agents",
    "new_id": "livingai.node.new_id; ExecutionNode makes its id by itself",
    "utcnow": "time.time(); times of nodes are seconds since the Unix epoch",
}

C = TypeVar("C", bound=type)


def refuse_old(given: Iterable[str], what: str) -> None:
    """Raise ConfigurationError if a keyword in ``given`` is one that ``what`` took in 0.4."""
    old = KEYWORDS.get(what, {})
    for name in given:
        if name in old:
            raise ConfigurationError(
                f"{what} took {name}= in livingai 0.4; there is now {old[name]} ({_PAGE})"
            )


def refuse_old_name(name: str) -> None:
    """Raise ConfigurationError if ``livingai`` had this name in 0.4."""
    if name in NAMES:
        raise ConfigurationError(
            f"livingai.{name} was in livingai 0.4; there is now {NAMES[name]} ({_PAGE})"
        )


def had_other_keywords(cls: C) -> C:
    """Decorates a class: its constructor names what a keyword of 0.4 is called now."""
    untyped: Any = cls
    build: Callable[..., None] = untyped.__init__
    taken = set(inspect.signature(build).parameters)

    @functools.wraps(build)
    def __init__(self: Any, *args: Any, **given: Any) -> None:
        refuse_old((name for name in given if name not in taken), cls.__name__)
        build(self, *args, **given)

    untyped.__init__ = __init__
    return cls
