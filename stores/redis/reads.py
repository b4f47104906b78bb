"""What a Redis store answers about one execution or node: by a script, which for nodes and
checkpoints is asked page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from livingai.errors import CorruptRowError, RecordRefusedError
from livingai.stores.base import SizedBlob, StoredCheckpoint, StoredNode
from livingai.stores.checked import newest_checkpoint
from livingai.stores.redis.keys import Keys, as_bytes, entries, parse_version
from livingai.stores.redis.link import Command, Link, Script
from livingai.stores.redis.rows import (
    evicted,
    parsing,
    read_blob,
    read_checkpoint,
    read_wire,
)

#: Rows of a page.
_PAGE: Final = 256
#: Bytes from which on a page ends early.
PAGE_BYTES: Final = 4 << 20


class RedisReads:
    """The read methods of :class:`~livingai.stores.base.Store` on a connection."""

    def __init__(self, link: Callable[[], Link], keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._script = Script("read")

    def _command(self, execution_id: str, *arguments: Any) -> Command:
        keys = self._keys.of(execution_id)
        prefix = self._keys.blob_prefix(execution_id)
        return Command(keys.run, [len(keys), *keys, prefix, *arguments], self._script)

    def ask(self, execution_id: str, *arguments: Any) -> Any:
        """What ``read.lua`` replies to that question about an execution.

        Raises:
            CorruptRecordError: a key of the execution is not what livingai wrote.
            StoreError: as the link says.
        """
        return self._one(execution_id, self._command(execution_id, *arguments))

    def _one(self, execution_id: str, command: Command) -> Any:
        """The reply to a command on one execution's keys."""
        (reply,) = self._link().each([command])
        return checked_reply(execution_id, reply)

    def latest_checkpoint(self, execution_id: str) -> StoredCheckpoint | None:
        """The newest write that carries a state; else the newest node, with blob None."""
        found = self.ask(execution_id, "latest")
        if found is None:
            return None
        with parsing(execution_id):
            version = parse_version(found[0])
            if len(found) == 2:
                return StoredCheckpoint(read_wire(execution_id, found[1]), *version, None, 0)
            checkpoint = read_checkpoint(execution_id, item(found, 2))
            wire = read_wire(execution_id, found[1], checkpoint.node_id)
            blob = read_blob(execution_id, checkpoint, item(found, 3))
            return newest_checkpoint(
                execution_id, wire, version, blob, checkpoint.state_kind, checkpoint.raw_bytes
            )

    def load_node(self, node_id: str) -> StoredCheckpoint | None:
        """The newest version of a node; of executions that share its id, the one saved last."""
        name = as_bytes(node_id)
        asked = [Command(key, ("HGET", key, name)) for key in self._keys.nodes]
        indexes = self._link().many(asked)
        with parsing(f"of node {node_id} (its entry in the index of nodes)"):
            ids = [name for text in indexes if text is not None for name in entries(text)]
        commands = [self._command(execution_id, "node", name) for execution_id in ids]
        newest: tuple[float, str, list[Any]] | None = None
        for execution_id, reply in zip(ids, self._link().each(commands), strict=True):
            found = checked_reply(execution_id, reply)
            if found is not None:
                with parsing(execution_id):
                    saved_at = float(found[0].split()[4])
                if newest is None or saved_at > newest[0]:
                    newest = (saved_at, execution_id, found)
        if newest is None:
            return None
        _, execution_id, found = newest
        with parsing(execution_id):
            version = parse_version(found[0].split()[0])
            wire = read_wire(execution_id, item(found, 1), node_id)
            if len(found) == 2:
                return StoredCheckpoint(wire, *version, None, 0)
            checkpoint = read_checkpoint(execution_id, item(found, 2))
            blob = read_blob(execution_id, checkpoint, item(found, 3))
            return newest_checkpoint(
                execution_id, wire, version, blob, checkpoint.state_kind, checkpoint.raw_bytes
            )

    def _pages(self, execution_id: str, verb: str, *more: Any) -> Iterator[list[Any]]:
        after = b""
        while page := self.ask(execution_id, verb, after, _PAGE, PAGE_BYTES, *more):
            yield from page
            after = page[-1][0]

    def nodes(self, execution_id: str) -> Iterator[StoredNode]:
        """All nodes of an execution, each in its newest version, ordered by their first save."""
        for line in self._pages(execution_id, "nodes"):
            with parsing(execution_id):
                place, head, wire = line[0], item(line, 1), item(line, 2)
                first, _, node_id = place[1:].partition(b":")
                # Of a run that was evicted, the list of its nodes may be left.
                if head is None or head.split()[1] != first:
                    raise evicted(execution_id)
                newest, _, carries, _, _ = head.split()
                epoch, seq = parse_version(newest)
                since = parse_version(first)
                fields = read_wire(execution_id, wire, node_id.decode())
                node = StoredNode(fields, epoch, seq, carries == b"1", since)
            yield node

    def checkpoints(self, execution_id: str, blobs: bool) -> Iterator[StoredCheckpoint]:
        """All checkpoints of an execution, oldest first."""
        for line in self._pages(execution_id, "checkpoints", int(blobs)):
            checkpoint = read_checkpoint(execution_id, item(line, 2))
            with parsing(execution_id):
                found = StoredCheckpoint(
                    read_wire(execution_id, line[1], checkpoint.node_id),
                    *parse_version(line[0][1:]),
                    read_blob(execution_id, checkpoint, item(line, 3)) if blobs else b"",
                    checkpoint.state_kind, checkpoint.node_id, checkpoint.base_hash,
                    checkpoint.content_hash, checkpoint.raw_bytes, checkpoint.stored_bytes,
                    checkpoint.saved_at,
                )  # fmt: skip
            yield found

    def sized_blob(self, execution_id: str, content_hash: bytes) -> SizedBlob | None:
        """The encoded checkpoint of this execution whose raw content has that hash."""
        found = self.ask(execution_id, "hash", content_hash)
        if found is None:
            return None
        checkpoint = read_checkpoint(execution_id, found[1] if len(found) > 1 else None)
        blob = read_blob(execution_id, checkpoint, item(found, 2))
        return SizedBlob(blob, checkpoint.raw_bytes)

    def owners(self, execution_id: str) -> list[tuple[int, str | None]]:
        """(epoch, claim) of all that ever owned the execution, oldest first."""
        key = self._keys.of(execution_id).owners
        fields: dict[bytes, bytes] = self._one(execution_id, Command(key, ("HGETALL", key)))
        with parsing(execution_id):
            return sorted(
                (int(field[2:]), claim.decode() or None)
                for field, claim in fields.items()
                if field.startswith(b"#")
            )

    def dropped_upto(self, execution_id: str) -> tuple[int, int] | None:
        """The newest version of all nodes that were removed; None: none was."""
        key = self._keys.of(execution_id).run
        found: bytes | None = self._one(execution_id, Command(key, ("HGET", key, "dropped")))
        with parsing(execution_id):
            return parse_version(found) if found else None


def checked_reply(execution_id: str, reply: Any) -> Any:
    """A reply about one execution; its error is raised as one of that execution."""
    with parsing(execution_id):
        if isinstance(reply, RecordRefusedError):  # a key of another type than ours
            raise CorruptRowError(f"execution {execution_id}: {reply}")
        if isinstance(reply, Exception):
            raise reply
    return reply


def item(reply: list[Any], place: int) -> Any:
    """An item of a reply; a script's reply ends at its first nil, which an evicted key gives."""
    return reply[place] if place < len(reply) else None
