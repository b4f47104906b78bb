"""LangGraph's long-term memory in livingai."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from livingai.adapters.langgraph.arguments import count, minutes, plain_dict, ttl_config
from livingai.adapters.langgraph.filters import ValueFilter, common_prefix, matches
from livingai.adapters.langgraph.item_cleaner import ItemCleaner
from livingai.adapters.langgraph.item_log import ItemLog
from livingai.adapters.langgraph.item_names import ItemNames, Namespace, keys_of, starts_with
from livingai.adapters.langgraph.items import ItemChange, StoredItem, packed
from livingai.adapters.langgraph.sweeper import Sweeper
from livingai.adapters.names import behind_prefix
from livingai.adapters.steps import Steps, take, take_sync
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.outcome import Durability

#: What the store's execution begins with; threads are ``langgraph:...``.
FRAMEWORK: Final = "langgraph-store"
_MINUTE_S: Final = 60.0
_NO_VECTORS: Final = (
    "LivingAIStore does not search by meaning: {asked} needs embeddings, which it does not keep. "
    "Search by prefix and filter here, and keep what is searched by meaning in a store with an "
    "index (PostgresStore(conn, index=...), or a vector database)"
)


class LivingAIStore(BaseStore):
    """A store: ``builder.compile(store=LivingAIStore(engine))``.

    Args:
        engine: where items are kept; it stays the caller's, who closes it.
        name: stores of different names have nothing to do with each other.
        ttl: as for LangGraph's own stores. ``default_ttl`` (minutes) for what is put without one,
            ``refresh_on_read`` (default: True), ``sweep_interval_minutes`` for
            :meth:`start_ttl_sweeper`. ``omit_expired`` is True here unless it is set: what has
            expired is not there any more, swept or not.
        durability: what a put waits for; by default the engine's level.

    ``put`` and ``delete`` return once they survive the death of any process; they read nothing.
    Reads see what any process of this machine has put before. Of several processes that put the
    same key the newest one counts. Searches give the newest items first.

    In a batch, as in LangGraph's own stores, what is read is read before what is put is put, and of
    several puts of a key the last one counts. A process that is killed in the midst of a batch may
    have put only the first ones.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    supports_ttl = True

    def __init__(
        self,
        engine: CheckpointEngine,
        name: str = "default",
        *,
        ttl: TTLConfig | None = None,
        durability: Durability | None = None,
    ) -> None:
        super().__init__()
        self.ttl_config = ttl_config(ttl)
        self._omits_expired = (self.ttl_config or {}).get("omit_expired", True)
        self._items = ItemLog(engine, ItemNames(FRAMEWORK, name), durability)
        self._cleaner = ItemCleaner(self._items)
        self._sweeper = Sweeper(self._items)

    @property
    def engine(self) -> CheckpointEngine:
        """Where items are kept."""
        return self._items.engine

    # -- operations --

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """The results of operations, in their order.

        Raises:
            InvalidNamespaceError: a namespace has an empty label, or one with a period.
            StateEncodingError: a value cannot be stored; nothing was put.
            ConfigurationError: a filter's operator is not known, or a search by meaning is asked
                for.
            LivingAIError: as :meth:`livingai.CheckpointEngine.save` and ``nodes_between``; and what
                became known of earlier puts of this process.
        """
        return take_sync(self._batch(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As :meth:`batch`."""
        return await take(self._batch(ops))

    def _batch(self, ops: Iterable[Op]) -> Steps[list[Result]]:
        ops = list(ops)
        for op in ops:
            validate_op_namespace(op)
        gets = {at: op for at, op in enumerate(ops) if isinstance(op, GetOp)}
        puts = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        changes = [self._change(op) for op in puts.values()]
        results: list[Result] = [None] * len(ops)
        if gets:
            for at, item in zip(gets, (yield from self._get(list(gets.values()))), strict=True):
                results[at] = item
        for at, op in enumerate(ops):
            if isinstance(op, SearchOp):
                results[at] = yield from self._search(op)
            elif isinstance(op, ListNamespacesOp):
                results[at] = yield from self._namespaces(op)
            elif not isinstance(op, GetOp | PutOp):
                raise ConfigurationError(f"Unknown operation type: {shown(op)}")
        yield from self._items.write(changes)
        self._cleaner.wrote(self._group(change.namespace, change.key) for change in changes)
        return results

    def _group(self, namespace: Namespace, key: str) -> str:
        return self._items.names.group(namespace, key)

    def _change(self, op: PutOp) -> ItemChange:
        if op.index not in (None, False):
            raise ConfigurationError(_NO_VECTORS.format(asked=f"index={shown(op.index)}"))
        value = None if op.value is None else packed(plain_dict(op.value))
        ttl_s = None if op.ttl is None else minutes(op.ttl, "ttl") * _MINUTE_S
        return ItemChange(tuple(op.namespace), str(op.key), value, ttl_s)

    def _get(self, ops: list[GetOp]) -> Steps[list[Item | None]]:
        groups = [self._group(tuple(op.namespace), str(op.key)) for op in ops]
        found = yield from self._items.read(list(dict.fromkeys(groups)))
        by_group = {item.group: item for item in found}
        now = time.time()
        items = [by_group[group] for group in groups]
        self._cleaner.found(each.group for each in found if self._has_waste(each, now))
        yield from self._items.touch(
            {
                item.group: item
                for item, op in zip(items, ops, strict=True)
                if op.refresh_ttl and self._is_there(item, now)
            }.values()
        )
        return [
            Item(key=str(op.key), namespace=tuple(op.namespace), **_content(item))
            if self._is_there(item, now)
            else None
            for item, op in zip(items, ops, strict=True)
        ]

    def _is_there(self, item: StoredItem, now: float) -> bool:
        return item.value is not None and not (self._omits_expired and item.is_expired(now))

    def _has_waste(self, item: StoredItem, now: float) -> bool:
        return bool(item.overtaken) or (self._omits_expired and item.is_expired(now))

    def _search(self, op: SearchOp) -> Steps[list[SearchItem]]:
        if op.query:
            raise ConfigurationError(_NO_VECTORS.format(asked=f"query={shown(op.query)}"))
        wanted = ValueFilter(op.filter)
        most = count(op.limit, "limit") + count(op.offset, "offset")
        prefix = tuple(op.namespace_prefix)
        names, now = self._items.names, time.time()
        # The newest ones so far, the oldest of them first; the ids make pairs comparable.
        newest: list[tuple[int, str, StoredItem]] = []
        walk = self._items.walk(names.below(prefix))
        while most and (page := (yield from walk.next())) is not None:
            self._cleaner.found(each.group for each in page if self._has_waste(each, now))
            for item in page:
                if not self._is_there(item, now):
                    continue
                entry = (item.updated_ns, item.group, item)
                if len(newest) >= most and entry < newest[0]:
                    continue
                if starts_with(self._name(item)[0], prefix) and (
                    not wanted or wanted.fits(item.unpacked())
                ):
                    (heapq.heappush if len(newest) < most else heapq.heapreplace)(newest, entry)
        found = [item for _, _, item in sorted(newest, reverse=True)][op.offset :]
        if op.refresh_ttl:
            yield from self._items.touch(found)
        results = []
        for item in found:
            namespace, key = self._name(item)
            results.append(SearchItem(namespace, key, **_content(item)))
        return results

    def _name(self, item: StoredItem) -> tuple[Namespace, str]:
        assert item.value is not None
        return self._items.names.read(item.value)

    def _namespaces(self, op: ListNamespacesOp) -> Steps[list[tuple[str, ...]]]:
        conditions = op.match_conditions or ()
        matches((), conditions)  # what is no condition is refused
        limit, offset = count(op.limit, "limit"), count(op.offset, "offset")
        now = time.time()
        found: set[Namespace] = set()
        known: set[str] = set()

        def skip(item: StoredItem) -> str | None:
            """Behind a namespace that is known, on the way to the next one."""
            keys = keys_of(item.group)
            return behind_prefix(keys) if keys in known else None

        walk = self._items.walk(self._items.names.below(common_prefix(conditions)), skip)
        while (page := (yield from walk.next())) is not None:
            for item in page:
                if keys_of(item.group) not in known and self._is_there(item, now):
                    known.add(keys_of(item.group))
                    namespace = self._name(item)[0]
                    if matches(namespace, conditions):
                        found.add(namespace[: op.max_depth])
        return sorted(found)[offset : offset + limit]

    # -- what expires --

    def sweep_ttl(self) -> int:
        """Remove what has expired, and what newer puts have overtaken; how many items had
        expired."""
        return take_sync(self._items.sweep())

    async def asweep_ttl(self) -> int:
        """As :meth:`sweep_ttl`."""
        return await take(self._items.sweep())

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> None:
        """Call :meth:`sweep_ttl` every so many minutes, in a thread, until
        :meth:`stop_ttl_sweeper` or the engine's end. By default as the store was told, or every 5.
        One process of several is enough."""
        every = sweep_interval_minutes or (self.ttl_config or {}).get("sweep_interval_minutes")
        self._sweeper.start(minutes(every or 5, "sweep_interval_minutes") * _MINUTE_S)

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End the sweeper; whether it has ended within ``timeout`` seconds."""
        return self._sweeper.stop(timeout)

    # -- barriers --

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the database has all that this process has put.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        self._items.log.flush_sync(timeout)

    async def aflush(self, timeout: float | None = None) -> None:
        """As :meth:`flush`."""
        await self._items.log.flush(timeout)


def _content(item: StoredItem) -> dict[str, Any]:
    """What LangGraph's items have of a stored one."""
    return {
        "value": item.unpacked(),
        "created_at": _date(item.created_ns),
        "updated_at": _date(item.updated_ns),
    }


def _date(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
