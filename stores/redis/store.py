"""Redis (6.2 or later) and Valkey, single or Cluster, without modules.

Keys are described in ``docs/STORES.md``. The parts beside this file: ``url`` (addresses),
``connect`` and ``link`` (connections), ``errors``, ``keys`` (names), ``rows`` (rows and replies),
``writes``, ``reads``, ``ranges``, ``listing`` (queries), ``drops`` (of nodes), three Lua scripts:
``commit.lua``, ``keep.lua``, ``read.lua``. All decisions about an execution are made by a script
inside the server, so any number of services may use the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from livingai.errors import (
    ConfigurationError,
    StoreAuthenticationError,
    StoreFormatError,
)
from livingai.names_04 import had_other_keywords
from livingai.stores.base import (
    Capabilities,
    CostLine,
    DroppedNodes,
    ExecutionFilter,
    ExecutionInfo,
    NodeRange,
    Row,
    RowResult,
    SizedBlob,
    Store,
    StoredCheckpoint,
    StoredNode,
    StoreSpec,
)
from livingai.stores.redis.connect import check_server, value_limit
from livingai.stores.redis.drops import RedisDrops
from livingai.stores.redis.keys import BUCKETS, Keys
from livingai.stores.redis.link import Command, Link
from livingai.stores.redis.listing import RedisListing
from livingai.stores.redis.options import Options
from livingai.stores.redis.ranges import RedisRanges
from livingai.stores.redis.reads import RedisReads
from livingai.stores.redis.rows import (
    MAX_VALUE_BYTES,
)
from livingai.stores.redis.url import DEFAULT_PREFIX, parse, split_options, state_directory
from livingai.stores.redis.writes import RedisWrites

#: Version of the layout of keys.
SCHEMA_VERSION: Final = 1
_MAX_WRITERS: Final = 4


@had_other_keywords
class RedisStore(Store):
    """Checkpoints in Redis or Valkey. Cheap to build: nothing is connected before it is used.

    Args:
        url: ``redis://[user:password@]host[:port][/database]``, ``rediss://`` (TLS), ``unix://``,
            ``redis+cluster://host:port[,host:port...]``, or
            ``redis+sentinel://host[:port][,...]/service[/database]``; what else redis-py takes
            goes into its query. The settings below can be there, too: ``?wait_aof=1,0``.
        prefix: what the names of all keys begin with; stores with different ones share a server.
        wait_aof: a write counts as stored only once it is in the append-only files, synced, of
            (the server itself: 0 or 1, so many replicas). Needs Redis 7.2.
        wait_replicas: a write counts as stored only once so many replicas have it in memory.
        wait_timeout_ms: how long a batch waits for these before it is sent again.
        timeout_s: how long to wait for a connection or a reply.

    Raises:
        ConfigurationError: no such URL, or a setting that cannot work; credentials are never shown.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        prefix: str = DEFAULT_PREFIX,
        wait_aof: Sequence[int] = (0, 0),
        wait_replicas: int = 0,
        wait_timeout_ms: int = 3000,
        timeout_s: float = 10.0,
    ) -> None:
        self._url, given = split_options(url)
        self._options = Options(
            prefix=prefix, wait_aof=_pair(wait_aof), wait_replicas=wait_replicas,
            wait_timeout_ms=wait_timeout_ms, timeout_s=timeout_s,
        ).with_text(given)  # fmt: skip
        options = self._options
        self._address = parse(self._url, options.prefix)
        self._keys = Keys(options.prefix)
        self._waiting = options.waiting()
        self._link = Link(self._address, timeout_s=options.timeout_s, waiting=self._waiting)
        self._is_checked = False
        self._writes = RedisWrites(self._ready, self._keys)
        self._reads = RedisReads(self._ready, self._keys)
        self._ranges = RedisRanges(self._ready, self._keys, self._reads)
        self._listing = RedisListing(self._ready, self._keys, self._reads.nodes)
        self._drops = RedisDrops(self._ready, self._keys, self._reads, self._listing.last_life)
        self.capabilities = Capabilities(
            max_writers=_MAX_WRITERS, durable=self._waiting.aof_local > 0
        )

    def __repr__(self) -> str:
        return f"RedisStore({self.url!r})"

    # -- identity --

    def spec(self) -> StoreSpec:
        """How another process builds the same store (holds the credentials)."""
        return StoreSpec(
            "livingai.stores.redis:RedisStore", {"url": self._url, **self._options.plain()}
        )

    @property
    def url(self) -> str:
        """The address without credentials."""
        return self._address.public_url

    def places(self) -> frozenset[str]:
        """The server (by what it calls itself, whatever host names lead to it), database and
        prefix."""
        key = self._keys.schema
        try:
            about = self._ready().one(Command(key, ("INFO", "server")))
        except StoreAuthenticationError:  # this user may not ask
            return frozenset({self.url})
        run_id = about["run_id"] if isinstance(about, dict) else self.url
        return frozenset({f"redis:{run_id}:{self._address.database}:{self._options.prefix}"})

    def default_directory(self) -> str:
        """Under ``$XDG_STATE_HOME/livingai``, named after the address without credentials."""
        return state_directory(self._address)

    def validate(self) -> None:
        """Nothing more: the URL was checked when the store was built, and asking the server could
        hang the agent."""

    # -- life --

    def open(self) -> None:
        """Connect, check the server, and mark it as ours. Every other call does it too.

        Raises:
            StoreAuthenticationError: wrong user or password, or rights are missing.
            StoreFormatError: too old, not the kind of server that the URL says, a newer schema.
            StoreUnavailableError: it cannot be reached for now.
        """
        if self._is_checked:
            return
        self._link.open()
        self._writes.value_limit = self._link.of_any(self._check_server)
        self._check_schema()
        self._is_checked = True

    def _check_server(self, client: Any) -> int:
        wants_waitaof = bool(self._waiting.aof_local or self._waiting.aof_replicas)
        check_server(client, self._address, wants_waitaof=wants_waitaof)
        return value_limit(client, MAX_VALUE_BYTES)

    def _check_schema(self) -> None:
        key = self._keys.schema
        ours = f"livingai {SCHEMA_VERSION} {BUCKETS}".encode()
        found = self._link.one(Command(key, ("GET", key)))
        if found is None:
            self._link.one(Command(key, ("SET", key, ours, "NX")))
            found = self._link.one(Command(key, ("GET", key))) or ours
        words = found.split()
        if len(words) != 3 or words[0] != b"livingai" or not words[1].isdigit():
            raise StoreFormatError(
                f"the key {key.decode()} of {self.url} is not livingai's; use another prefix"
            )
        if int(words[1]) > SCHEMA_VERSION:
            raise StoreFormatError(
                f"{self.url} has schema version {int(words[1])}, this livingai knows versions up "
                f"to {SCHEMA_VERSION}; upgrade livingai to use it"
            )

    def close(self) -> None:
        """Disconnect. Idempotent; a later call connects again."""
        self._is_checked = False
        self._link.close()

    def _ready(self) -> Link:
        if not self._is_checked:
            self.open()
        elif not self._link.is_open:
            self._link.open()
        return self._link

    # -- marks --

    def marks(self) -> dict[str, str]:
        """Notes about the store itself.

        Raises:
            StoreUnavailableError: try again.
        """
        key = self._keys.marks
        words = self._ready().one(Command(key, ("HGETALL", key))) or {}
        if not isinstance(words, dict):
            words = dict(zip(words[::2], words[1::2], strict=True))
        return {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in words.items()
        }

    def mark(self, name: str, value: str | None, *, keep: bool = False) -> None:
        """Set a note, or remove it; ``keep``: the value that is there stays.

        Raises:
            StoreUnavailableError: try again.
        """
        key = self._keys.marks
        if value is None:
            words: tuple[Any, ...] = ("HDEL", key, name.encode())
        else:
            words = ("HSETNX" if keep else "HSET", key, name.encode(), value.encode())
        self._ready().one(Command(key, words))

    # -- writing --

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch, each execution's rows atomically; one result per row, in order.

        Raises:
            StoreUnavailableError: a part may have been written; send the same batch again.
            StoreError: the server cannot be used like this, see :meth:`open`.
        """
        return self._writes.commit(rows)

    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same one again.

        Raises:
            FencedError: a newer claim has come since, or the execution was deleted.
            StoreUnavailableError: try again.
        """
        return self._writes.claim(execution_id, claim)

    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution and fence all that wrote to it; the number of nodes.

        Its owners are kept, with the deletion as the newest one.

        Raises:
            StoreUnavailableError: try again.
        """
        return self._writes.delete_execution(execution_id)

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints; the number of blob bytes removed.

        Raises:
            StoreUnavailableError: try again.
        """
        return self._writes.drop_checkpoints(execution_id, versions)

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """Remove nodes with all their checkpoints, in parts of a few milliseconds each.

        Raises:
            StoreUnavailableError: try again; what was removed so far stays removed.
        """
        return self._drops.drop_nodes(execution_id, node_ids)

    def forget(self, execution_id: str) -> bool:
        """Remove all of an execution, its owners too, as if it had never been here.

        Raises:
            StoreUnavailableError: try again.
        """
        return self._writes.forget(execution_id)

    # -- reading: each raises StoreUnavailableError (try again), and CorruptRecordError where what
    # -- the server has is not what was written

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state; else the newest node, with blob None."""
        return self._reads.latest_checkpoint(execution_id)

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node with the newest state that it was saved with."""
        return self._reads.load_node(node_id)

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""
        return self._reads.nodes(execution_id)

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        """The nodes of a range of ids, each with the newest state that was not dropped."""
        return self._ranges.nodes_between(execution_id, asked)

    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        """The encoded checkpoint of this execution whose raw content has that hash."""
        found = self._reads.sized_blob(execution_id, content_hash)
        return found.blob if found else None

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """As :meth:`blob_by_hash`, with the size of the state by its row."""
        return self._reads.sized_blob(execution_id, content_hash)

    def list_executions(
        self,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str = "",
        where: ExecutionFilter | None = None,
    ) -> list[ExecutionInfo]:
        """A page of executions in order of id (by code point), starting behind ``after``."""
        return self._listing.list_executions(after, limit, prefix, where)

    def checkpoints(self, execution_id: str, *, blobs: bool = True) -> Iterator[StoredCheckpoint]:
        """All checkpoints of an execution, oldest first."""
        return self._reads.checkpoints(execution_id, blobs)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """(epoch, claim) of all that ever owned the execution, oldest first."""
        return self._reads.owners(execution_id)

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed from an execution."""
        return self._reads.dropped_upto(execution_id)

    def costs(self, *, group: str = "execution", prefix: str = "") -> list[CostLine]:
        """Sums of nodes by execution, name or day; reads every node."""
        return self._listing.costs(group, prefix)

    def size_bytes(self) -> int:
        """Bytes of memory that the server uses (all of them in a cluster), for whatever."""
        return sum(self._ready().of_all(lambda client: int(client.info("memory")["used_memory"])))


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    if len(numbers) != 2:
        raise ConfigurationError("wait_aof has two numbers: (0 or 1 for the server, replicas)")
    return (numbers[0], numbers[1])
