"""LangGraph's cache of nodes in livingai."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langgraph.cache.base import BaseCache, FullKey, Namespace
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from livingai.adapters.langgraph.item_cleaner import ItemCleaner
from livingai.adapters.langgraph.item_log import ItemLog
from livingai.adapters.langgraph.item_names import ItemNames
from livingai.adapters.langgraph.items import ItemChange, StoredItem, packed
from livingai.adapters.steps import Steps, take, take_sync
from livingai.asked import as_seconds, shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.outcome import Durability

_log = logging.getLogger("livingai")
#: What the cache's execution begins with; threads are ``langgraph:...``.
FRAMEWORK: Final = "langgraph-cache"
#: After so many values that expire, what has expired is looked for.
_SWEEP_AFTER: Final = 1000


class LivingAICache(BaseCache[Any]):
    """A cache: ``builder.compile(cache=LivingAICache(engine))``, for nodes that were added with a
    ``CachePolicy``.

    Args:
        engine: where values are kept; it stays the caller's, who closes it.
        name: caches of different names have nothing to do with each other.
        serde: how values become bytes. By default LangGraph's own serializer in its strict form,
            which makes objects of known types only. A value that holds another type is not found:
            the node is called, and a warning says what to allow
            (``JsonPlusSerializer(allowed_msgpack_modules=[("my.module", "MyType")])``).
        durability: what ``set`` waits for; by default the engine's level.

    All processes on the same store have the same values. A value that has expired (``ttl`` of the
    policy, in seconds) is not found, and its space is given back.

    Raises:
        ConfigurationError: an argument that cannot work; a serializer that may unpickle.
    """

    def __init__(
        self,
        engine: CheckpointEngine,
        name: str = "default",
        *,
        serde: SerializerProtocol | None = None,
        durability: Durability | None = None,
    ) -> None:
        super().__init__(serde=serde or JsonPlusSerializer(allowed_msgpack_modules=None))
        if getattr(self.serde, "pickle_fallback", False):
            raise ConfigurationError(
                "a cache that unpickles runs what anybody writes into its store: pass a serializer "
                "with pickle_fallback=False"
            )
        self._items = ItemLog(engine, ItemNames(FRAMEWORK, name), durability)
        self._cleaner = ItemCleaner(self._items)
        self._expiring = itertools.count(1)

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """The values that there are.

        Raises:
            LivingAIError: as :meth:`livingai.CheckpointEngine.nodes_between`, and what became known
                of earlier sets of this process.
        """
        return take_sync(self._get(keys))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, Any]:
        """As :meth:`get`."""
        return await take(self._get(keys))

    def set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """Keep values, each for so many seconds (None: for ever).

        Raises:
            LivingAIError: as :meth:`livingai.CheckpointEngine.save`.
        """
        take_sync(self._set(pairs))

    async def aset(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> None:
        """As :meth:`set`."""
        await take(self._set(pairs))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Remove the values of these namespaces, or all.

        Raises:
            ServiceUnavailableError: the service does not answer; ask again.
        """
        take_sync(self._items.clear(_paths(namespaces)))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """As :meth:`clear`."""
        await take(self._items.clear(_paths(namespaces)))

    def sweep(self) -> int:
        """Remove what has expired; how many values. It is also done now and then by processes that
        set values."""
        return take_sync(self._items.sweep())

    async def asweep(self) -> int:
        """As :meth:`sweep`."""
        return await take(self._items.sweep())

    def _get(self, keys: Sequence[FullKey]) -> Steps[dict[FullKey, Any]]:
        wanted = {self._group(key): key for key in keys}
        found = yield from self._items.read(list(wanted))
        now = time.time()
        self._cleaner.found(item.group for item in found if item.overtaken or item.is_expired(now))
        values: dict[FullKey, Any] = {}
        for item in found:
            if item.value is not None and not item.is_expired(now):
                namespace, key = wanted[item.group]
                self._load(item, (tuple(namespace), key), values)
        return values

    def _load(self, item: StoredItem, key: FullKey, values: dict[FullKey, Any]) -> None:
        """Add a value to ``values``; one that cannot be made again as it was is not there."""
        kind, data = item.unpacked()
        blocked: set[tuple[str, str]] = set()
        _blocked.types = blocked
        try:
            value = self.serde.loads_typed((kind, data))
        except Exception as error:  # whatever a serializer raises: the node is called again
            _log.warning(
                "the cached value of %s cannot be read, so it is made anew: %s", key, error
            )
            return
        finally:
            _blocked.types = None
        if blocked:
            _log.warning(
                "the cached value of %s holds types that the cache's serializer does not make, so "
                "it is made anew: allow them, "
                "LivingAICache(engine, serde=JsonPlusSerializer(allowed_msgpack_modules=%s))",
                key, sorted(blocked),
            )  # fmt: skip
            return
        values[key] = value

    def _set(self, pairs: Mapping[FullKey, tuple[Any, int | None]]) -> Steps[None]:
        changes = [self._change(key, *pair) for key, pair in pairs.items()]
        yield from self._items.write(changes)
        self._cleaner.wrote(self._group(key) for key in pairs)
        for change in changes:
            if change.ttl_s is not None and next(self._expiring) % _SWEEP_AFTER == 0:
                self._cleaner.sweep_soon()

    def _change(self, key: FullKey, value: Any, ttl: int | None) -> ItemChange:
        namespace, name = key
        ttl_s = None if ttl is None else as_seconds(ttl, "ttl")
        typed = list(self.serde.dumps_typed(value))
        return ItemChange(tuple(namespace), name, packed(typed), ttl_s)

    def _group(self, key: FullKey) -> str:
        namespace, name = key
        return self._items.names.group(tuple(namespace), name)


def _paths(namespaces: Sequence[Namespace] | None) -> list[Namespace] | None:
    if isinstance(namespaces, str) or any(isinstance(each, str) for each in namespaces or ()):
        raise ConfigurationError(f"namespaces are tuples of labels, not {shown(namespaces)}")
    return None if namespaces is None else [tuple(each) for each in namespaces]


class _Blocked(threading.local):
    """While this thread reads a value: the types that its serializer has refused to make."""

    types: set[tuple[str, str]] | None = None


_blocked = _Blocked()


def _note(event: SerdeEvent) -> None:
    if _blocked.types is not None and event["kind"].endswith("blocked"):
        _blocked.types.add((event["module"], event["name"]))


register_serde_event_listener(_note)
