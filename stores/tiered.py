"""Two stores as one: a hot one in front of a cold one, any two.

Rules:

1. **Cold is the truth.** A write has an outcome once cold has committed it; claims and epochs are
   cold's, and hot is given them. So hot may lose everything (FLUSHALL, eviction, restart) and
   nothing is lost; while cold is down, records wait in the journal and are stored when it is back.
2. **Hot answers only where it is complete.** Before a read is served from hot, its line for the
   execution (newest version, numbers of nodes and checkpoints) is compared with cold's, which is a
   small query; the blobs, which are not small, then come from hot. What hot has not got, or has
   damaged, is read from cold and filled up; what cold has deleted is removed from hot. While cold
   is down, hot answers alone.
3. **A hot tier in trouble holds nothing up.** It is left out for a while
   (:mod:`livingai.stores.hot_tier`) and heals by rule 2.
4. **Only the removal of single nodes waits for it.** Else hot could have one node that it should
   have lost, and lack one that it has missed: by rule 2 it would seem complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from livingai.errors import ConfigurationError, StoreUnavailableError
from livingai.node import NodeField
from livingai.stores.base import (
    Capabilities,
    CostLine,
    DroppedNodes,
    ExecutionFilter,
    ExecutionInfo,
    NodeRange,
    PackedNode,
    Row,
    RowResult,
    RowStatus,
    SizedBlob,
    Store,
    StoredCheckpoint,
    StoredNode,
    StoreSpec,
)
from livingai.stores.copying import find_execution
from livingai.stores.hot_tier import HotTier

T = TypeVar("T")


class TieredStore(Store):
    """``TieredStore(hot, cold)``; see the rules at the top of this module.

    Args:
        hot: a fast store that may forget, such as Redis.
        cold: the store that counts, such as PostgreSQL or SQLite.
        fill_bytes: an execution whose blobs are larger in all is not copied to hot by a read.

    Raises:
        ConfigurationError: hot or cold is no store, or both are the same one.
    """

    def __init__(
        self,
        hot: Store | dict[str, Any],
        cold: Store | dict[str, Any],
        *,
        fill_bytes: int = 16 << 20,
    ) -> None:
        self._hot = _tier(hot)
        self._cold = _tier(cold)
        if self._hot.url == self._cold.url:
            raise ConfigurationError("hot and cold tier are the same store; use it alone")
        self._fill_bytes = fill_bytes
        self._hot_tier = HotTier(self._hot, self._cold, fill_bytes)
        self.capabilities = Capabilities(
            max_writers=min(
                self._hot.capabilities.max_writers, self._cold.capabilities.max_writers
            ),
            durable=self._cold.capabilities.durable,
            examines=self._cold.capabilities.examines,
        )

    # -- identity --

    def spec(self) -> StoreSpec:
        """How another process builds the same store (holds both tiers' specs)."""
        tiers = {
            name: {"path": spec.path, "kwargs": spec.kwargs}
            for name, spec in (("hot", self._hot.spec()), ("cold", self._cold.spec()))
        }
        kwargs = {**tiers, "fill_bytes": self._fill_bytes}
        return StoreSpec("livingai.stores.tiered:TieredStore", kwargs)

    @property
    def url(self) -> str:
        """Both tiers' addresses, without credentials."""
        return f"tiered:{self._hot.url}|{self._cold.url}"

    def places(self) -> frozenset[str]:
        """Both tiers' places; a hot tier that cannot be asked has none."""
        nowhere: frozenset[str] = frozenset()
        return self._cold.places() | self._hot_tier.use(self._hot.places, nowhere)

    def default_directory(self) -> str:
        """Beside the cold tier's, because the journals belong to both."""
        return self._cold.default_directory() + self._suffix()

    def former_directories(self) -> list[str]:
        """Beside the cold tier's former ones."""
        return [path + self._suffix() for path in self._cold.former_directories()]

    def _suffix(self) -> str:
        return f"-tiered-{hashlib.sha256(self._hot.url.encode()).hexdigest()[:8]}"

    def validate(self) -> None:
        """Both tiers' checks."""
        self._hot.validate()
        self._cold.validate()

    @property
    def replacements(self) -> int:
        """Cold's."""
        return self._cold.replacements

    @property
    def place(self) -> str | None:
        """Cold's."""
        return self._cold.place

    def glance(self) -> str | None:
        """The identity of cold, as far as it is known at once."""
        return self._cold.glance()

    def marks(self) -> dict[str, str] | None:
        """Cold's marks: what hot holds may be another database tomorrow."""
        return self._cold.marks()

    def mark(self, name: str, value: str | None, *, keep: bool = False) -> None:
        """Set a mark of cold."""
        self._cold.mark(name, value, keep=keep)

    # -- life --

    def open(self) -> None:
        """Open cold; hot is opened when it can be."""
        self._cold.open()
        self._hot_tier.use(self._hot.open, None)

    def examine(self) -> None:
        """Look whether the cold store is sound, which decides."""
        self._cold.examine()

    def let_go(self) -> None:
        """In both tiers, close what is not there any more."""
        self._hot.let_go()
        self._cold.let_go()

    def close(self) -> None:
        """Disconnect from both."""
        self._hot.close()
        self._cold.close()

    # -- writing --

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Commit to cold, then to hot; the results are cold's. If hot has not taken a stored row,
        the reason of its result says so."""
        results = self._cold.commit(rows)
        stored = [n for n, result in enumerate(results) if result.status is RowStatus.STORED]
        given = [replace(rows[n], epoch=results[n].epoch) for n in stored]
        if not given:
            return results

        def tell() -> list[RowResult]:
            self._hot.open()
            return self._hot.commit(given)

        nothing: list[RowResult] = []
        answers = self._hot_tier.use(tell, nothing)
        for position, number in enumerate(stored):
            if not answers or answers[position].status is not RowStatus.STORED:
                results[number] = replace(results[number], reason="not in the hot tier yet")
        return results

    def claim(self, execution_id: str, claim: str) -> int:
        """The epoch that cold gives; hot learns it with the first row."""
        return self._cold.claim(execution_id, claim)

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints from both; the number of bytes removed from cold."""
        removed = self._cold.drop_checkpoints(execution_id, versions)
        self._hot_tier.use(lambda: self._hot.drop_checkpoints(execution_id, versions), 0)
        return removed

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes from cold, then from hot (rule 4); what was removed from cold.

        Raises:
            StoreUnavailableError: nothing was removed, or hot does not know yet; try again.
        """
        if not self._hot_tier.is_there(execution_id):
            raise StoreUnavailableError(
                f"{self._hot.url}: the hot tier cannot be told which nodes are removed, so none "
                "were; try again when it is back"
            )
        dropped = self._cold.drop_nodes(execution_id, node_ids)
        gone = set(node_ids) - set(dropped.kept)
        if not self._hot_tier.drop_nodes(execution_id, gone):
            raise StoreUnavailableError(
                f"{self._hot.url}: the hot tier has gone and does not know which nodes were "
                f"removed from {self._cold.url}; try again when it is back"
            )
        return dropped

    def delete_execution(self, execution_id: str) -> int:
        """Remove an execution from both; the number of nodes removed from cold."""
        removed = self._cold.delete_execution(execution_id)
        self._hot_tier.use(lambda: self._hot.delete_execution(execution_id), 0)
        return removed

    # -- reading --

    def _read(self, execution_id: str, read: Callable[[Store], T]) -> T:
        """Read from hot where it is complete (or all there is), else from cold, and fill up."""
        try:
            truth = find_execution(self._cold, execution_id)
        except StoreUnavailableError:
            return read(self._hot)
        if truth is None:
            self._hot_tier.remove(execution_id)
            return read(self._cold)
        found = self._hot_tier.read(truth, read)
        return read(self._cold) if found is None else found[0]

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state; else the newest node, with blob None."""
        return self._read(execution_id, lambda store: store.latest_checkpoint(execution_id))

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node with the newest state that it was saved with."""
        hint = self._hot_tier.use(lambda: self._hot.load_node(node_id), None)
        if hint is not None:
            return self._read(
                str(hint.wire[NodeField.EXECUTION_ID]), lambda store: store.load_node(node_id)
            )
        found = self._cold.load_node(node_id)
        if found is not None:
            self._hot_tier.refresh(str(found.wire[NodeField.EXECUTION_ID]))
        return found

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""
        return iter(self._read(execution_id, lambda store: list(store.nodes(execution_id))))

    def packed_nodes(self, execution_id: str) -> Iterator[PackedNode]:
        """As :meth:`nodes`, with the wires as the tier that answers has them."""
        return iter(self._read(execution_id, lambda store: list(store.packed_nodes(execution_id))))

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range, each with the newest state that it was saved with."""
        return self._read(execution_id, lambda store: store.nodes_between(execution_id, asked))

    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        """The encoded checkpoint of this execution whose raw content has that hash."""
        blob = self._hot_tier.use(lambda: self._hot.blob_by_hash(execution_id, content_hash), None)
        return blob if blob is not None else self._cold.blob_by_hash(execution_id, content_hash)

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """As :meth:`blob_by_hash`, with the size of the state by its row."""
        found = self._hot_tier.use(lambda: self._hot.sized_blob(execution_id, content_hash), None)
        return found if found is not None else self._cold.sized_blob(execution_id, content_hash)

    def list_executions(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str = "",
        where: ExecutionFilter | None = None,
    ) -> list[ExecutionInfo]:
        """A page of cold's executions."""
        return self._cold.list_executions(after=after, limit=limit, prefix=prefix, where=where)

    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        """All of cold's checkpoints of an execution."""
        return self._cold.checkpoints(execution_id, blobs=blobs)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """Cold's owners of an execution."""
        return self._cold.owners(execution_id)

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed from cold."""
        return self._cold.dropped_upto(execution_id)

    def costs(self, *, group: str = "execution", prefix: str = "") -> list[CostLine]:
        """Cold's sums."""
        return self._cold.costs(group=group, prefix=prefix)

    def size_bytes(self) -> int:
        """Bytes that both tiers occupy."""
        return self._cold.size_bytes() + self._hot_tier.use(self._hot.size_bytes, 0)


def _tier(store: Store | dict[str, Any]) -> Store:
    """A tier: a store, or (in another process) its spec as plain values."""
    if isinstance(store, dict):
        return StoreSpec(store["path"], store["kwargs"]).build()
    if not isinstance(store, Store):
        raise ConfigurationError(f"a tier is a store, not {store!r}")
    return store
