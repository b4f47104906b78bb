"""The database of a simulation: the contract's model behind the interface of a store, with its
troubles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from livingai.errors import FencedError, StoreUnavailableError
from livingai.stores.base import (
    Capabilities,
    CostLine,
    DroppedNodes,
    ExecutionFilter,
    ExecutionInfo,
    Row,
    RowResult,
    RowStatus,
    SizedBlob,
    Store,
    StoredCheckpoint,
    StoredNode,
    StoreSpec,
)
from livingai.stores.states import StateDecoder
from livingai.testing.model import StoreModel


class Database(StoreModel):
    """What is committed; all hosts have the same."""

    def __init__(self) -> None:
        super().__init__()
        #: Called before and after each commit with the name of the place.
        self.point: Callable[[str], None] = lambda _: None
        #: Commits that fail from now on: True where the rows are written all the same.
        self.troubles: list[bool] = []
        #: New rows in the order in which they came: execution and version.
        self.commits: list[tuple[str, tuple[int, int]]] = []
        #: Nodes that are refused.
        self.poison: set[str] = set()

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        refused = RowResult(RowStatus.REFUSED, 0, "it is poison")
        results = []
        for row in rows:
            before = len(self.rows_of(row.execution_id))
            result = refused if row.node_id in self.poison else self._commit(row)
            results.append(result)
            if len(self.rows_of(row.execution_id)) > before:
                self.commits.append((row.execution_id, (result.epoch, row.seq)))
        return results

    def rows_of(self, execution_id: str) -> dict[tuple[int, int], Row]:
        """All rows of an execution by (epoch, seq)."""
        found = self._executions.get(execution_id)
        return found.rows if found else {}

    def owners_of(self, execution_id: str) -> list[tuple[str | None, int]]:
        """(claim, epoch) of an execution, oldest first."""
        found = self._executions.get(execution_id)
        return found.owners if found else []

    def newest(self, execution_id: str) -> StoredCheckpoint | None:
        """What ``latest_checkpoint`` answers."""
        rows = self.rows_of(execution_id)
        if not rows:
            return None
        with_state = [version for version, row in rows.items() if row.blob is not None]
        version = max(with_state or rows)
        row = rows[version]
        return StoredCheckpoint(
            row.wire, *version, row.blob, row.state_kind, row.node_id, row.base_hash,
            row.content_hash, row.raw_bytes,
        )  # fmt: skip

    def clear(self) -> None:
        """Forget everything."""
        self._executions.clear()


#: The database that every :class:`SimStore` of this process is on.
database = Database()


class SimStore(Store):
    """A connection to :data:`database`."""

    capabilities = Capabilities(max_writers=2, embedded=True)

    def spec(self) -> StoreSpec:
        return StoreSpec("tests.simulation.store:SimStore", {})

    @property
    def url(self) -> str:
        return "simulation:"

    def default_directory(self) -> str:
        raise NotImplementedError("a simulation names its directories")

    def open(self) -> None:
        """It is always there."""

    def close(self) -> None:
        """There is nothing to close."""

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        database.point("store.before_commit")
        trouble = database.troubles.pop() if database.troubles else None
        if trouble is False:
            raise StoreUnavailableError("it was away")
        results = database.commit(rows)
        database.point("store.after_commit")
        if trouble:
            raise StoreUnavailableError("the connection ended before the answer came")
        return results

    def claim(self, execution_id: str, claim: str) -> int:
        database.point("store.before_claim")
        epoch = database.claim(execution_id, claim)
        database.point("store.after_claim")
        if epoch is None:
            raise FencedError(f"{execution_id} belongs to a newer claim")
        return epoch

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        database.point("store.before_read")
        return database.newest(execution_id)

    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        return database.blob_by_hash(execution_id, content_hash)

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        raise NotImplementedError

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        raise NotImplementedError

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        raise NotImplementedError

    def delete_execution(self, execution_id: str) -> int:
        raise NotImplementedError

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        raise NotImplementedError

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        raise NotImplementedError

    def list_executions(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str = "",
        where: ExecutionFilter | None = None,
    ) -> list[ExecutionInfo]:
        raise NotImplementedError

    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        raise NotImplementedError

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        return [(epoch, claim) for claim, epoch in database.owners_of(execution_id)]

    def costs(self, *, group: str = "execution", prefix: str = "") -> list[CostLine]:
        raise NotImplementedError

    def size_bytes(self) -> int:
        raise NotImplementedError


def decoded(execution_id: str, row: Row) -> bytes:
    """The state of a row."""
    assert row.blob is not None
    decoder = StateDecoder(SimStore(), execution_id, max_bytes=1 << 20)
    return decoder.decode(SizedBlob(row.blob, row.raw_bytes), row.content_hash)
