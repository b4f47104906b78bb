"""A process that talks to the store: a writer (commits) or the reader (answers queries).

It does one request after the other. A writer is told records by place and reads them from the
mapped journal; only encoded checkpoints come with the request. The end of the connection is the
end of the process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from livingai import codecs, serial
from livingai.config import ServiceConfig
from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    ExecutionNotFoundError,
    LivingAIError,
    MissingBaseError,
    NodeNotFoundError,
)
from livingai.failpoint import failpoint
from livingai.history import pack_history
from livingai.node import Status
from livingai.queue.layout import Flag
from livingai.queue.record import read_record
from livingai.stores.base import Row, Store, StoredCheckpoint
from livingai.stores.copying import copy_execution, find_execution
from livingai.stores.retention import Retention, prune
from livingai.workers.compressor import SegmentCache
from livingai.workers.process import die_with_parent, leave_signals_to_parent, yield_to_agents
from livingai.workers.protocol import LENGTH, Message, error_parts, frame, parse

#: Row status of a record whose bytes in the journal are damaged.
DAMAGED = 100
#: A checkpoint never decodes to more: the largest state that the configuration allows.
_MAX_RAW_BYTES = 1 << 31


class StoreWorker:
    """Verbs of a worker process; each returns plain values for a reply."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened = False
        self._segments = SegmentCache()

    def _open(self) -> Store:
        if not self._opened:
            self._store.open()
            self._opened = True
        return self._store

    def handle(self, verb: str, arguments: list[Any]) -> Any:
        """Do one request. Raises a LivingAIError for the caller, or what the driver raises."""
        method: Callable[..., Any] = getattr(self, f"do_{verb}")
        try:
            return method(*arguments)
        except (LivingAIError, KeyboardInterrupt):
            raise
        except Exception:
            self._opened = False  # an unknown error: start from a fresh connection
            with contextlib.suppress(Exception):
                self._store.close()
            raise

    # -- writer --

    def do_ready(self) -> None:
        """Connect, so that the first commit need not."""
        self._open()

    def do_commit(self, records: list[list[Any]]) -> list[list[Any]]:
        """Commit records ``[journal, position, blob, content hash, base hash]``; for each one
        ``[row status, epoch, reason, commit time (CLOCK_MONOTONIC ns)]``."""
        rows: list[Row] = []
        damaged: dict[int, str] = {}
        for number, record in enumerate(records):
            try:
                rows.append(self._row(*record))
            except (CorruptRecordError, IndexError, TypeError, ValueError) as error:
                damaged[number] = str(error)
        failpoint("writer.before_commit")
        results = iter(self._open().commit(rows) if rows else [])
        failpoint("writer.after_commit")
        now = time.monotonic_ns()
        answer: list[list[Any]] = []
        for number in range(len(records)):
            if number in damaged:
                answer.append([DAMAGED, 0, damaged[number], now])
            else:
                result = next(results)
                answer.append([int(result.status), result.epoch, result.reason, now])
        return answer

    def _row(
        self,
        journal: str,
        position: int,
        blob: bytes | None,
        content_hash: bytes | None,
        base_hash: bytes | None,
    ) -> Row:
        view = self._segments.view(journal, position)
        header, node, ext, state = read_record(view, position & 0xFFFF_FFFF)
        wire: Any = serial.unpack(node)
        tags: Any = serial.unpack(ext) if ext else {}
        if blob is None and header.flags & Flag.STATE:
            blob = b"\0" + state
            content_hash = codecs.content_hash(state)
        owner = tags.pop("_owner", None) or f"{header.journal_id:016x}-{header.claim:x}"
        return Row(
            execution_id=wire[0], node_id=wire[1], claim=owner, epoch=header.epoch,
            seq=header.seq, wire=wire, blob=blob, state_kind=header.state_kind,
            raw_bytes=header.state_len, saved_at=header.wall_ns / 1e9, base_hash=base_hash,
            content_hash=content_hash, tags=tags,
        )  # fmt: skip

    def do_claim(self, execution_id: str, claim: str) -> int:
        """The epoch that the store gives to ``claim``."""
        return self._open().claim(execution_id, claim)

    # -- reader --

    def do_latest(self, execution_id: str) -> list[Any]:
        """``[node section, state kind, raw state or None]`` of the newest checkpoint."""
        found = self._open().latest_checkpoint(execution_id)
        if found is None:
            raise self._unknown(execution_id)
        return self._checkpoint(found)

    def do_load(self, node_id: str) -> list[Any]:
        """As :meth:`do_latest`, of one node."""
        found = self._open().load_node(node_id)
        if found is None:
            raise NodeNotFoundError(f"no node {node_id!r} in {self._store.url}, and none is queued")
        return self._checkpoint(found)

    def _checkpoint(self, found: StoredCheckpoint) -> list[Any]:
        raw = None
        if found.blob is not None:
            execution_id = str(found.wire[0])
            raw = self._decode(execution_id, found.blob, found.content_hash)
        return [serial.pack(found.wire), found.state_kind, raw]

    def _decode(self, execution_id: str, blob: bytes, expected: bytes | None) -> bytes:
        def base(content_hash: bytes) -> bytes:
            stored = self._store.blob_by_hash(execution_id, content_hash)
            if stored is None:
                raise MissingBaseError(
                    f"{execution_id}: a delta's base {content_hash.hex()} is not in the store"
                )
            return self._decode(execution_id, stored, content_hash)

        return codecs.decode(
            blob, fetch_base=base, max_bytes=_MAX_RAW_BYTES, expected_hash=expected
        )

    def do_nodes(self, execution_id: str) -> list[Any]:
        """A message of :mod:`livingai.history` with all nodes and no state."""
        message = pack_history(None, None, self._open().packed_nodes(execution_id))
        if not message[-1]:
            raise self._unknown(execution_id)
        return message

    def _unknown(self, execution_id: str) -> ExecutionNotFoundError:
        return ExecutionNotFoundError(
            f"no execution {execution_id!r} in {self._store.url}, and none is queued"
        )

    def do_history(
        self, execution_id: str, have: list[Any] | None, behind_checkpoint: bool
    ) -> list[Any]:
        """A message of :mod:`livingai.history`: all nodes, or with ``behind_checkpoint`` those that
        were written after the newest checkpoint or still run. ``have`` is ``[node id, seq, owner]``
        of the state that the agent has already."""
        store = self._open()
        nodes = store.packed_nodes(execution_id)
        found = store.latest_checkpoint(execution_id)
        if found is None:
            raise self._unknown(execution_id)
        if found.blob is None:
            return pack_history(None, None, nodes)
        version = (found.epoch, found.seq)
        owner = dict(store.owners(execution_id)).get(found.epoch)
        state: list[Any] | None = None
        if have != [found.wire[1], found.seq, owner]:
            _, kind, raw = self._checkpoint(found)
            state = [kind, raw]
        if behind_checkpoint:
            nodes = (
                node
                for node in nodes
                if (node.epoch, node.seq) > version or node.status == Status.RUNNING
            )
        return pack_history((found.wire[1], *version, owner), state, nodes)

    def do_costs(self, group: str, prefix: str) -> list[list[Any]]:
        """Sums; fields of :class:`~livingai.stores.base.CostLine`."""
        return [
            [line.group, line.nodes, line.cost_tokens, line.latency_ms]
            for line in self._open().costs(group=group, prefix=prefix)
        ]

    def do_executions(self, after: str | None, limit: int, prefix: str) -> list[list[Any]]:
        """A page of executions; fields of :class:`~livingai.stores.base.ExecutionInfo`."""
        page = self._open().list_executions(after=after, limit=limit, prefix=prefix)
        return [
            [getattr(info, field) for field in type(info).__dataclass_fields__] for info in page
        ]

    # -- housekeeper --

    def do_prune(self, policy: dict[str, Any]) -> list[int]:
        """Apply a retention policy; ``[executions, checkpoints, blob bytes]`` removed."""
        policy["statuses"] = tuple(policy.get("statuses", ()))
        pruned = prune(self._open(), Retention(**policy))
        return [pruned.executions, pruned.checkpoints, pruned.blob_bytes]

    def do_delete(self, execution_id: str) -> int:
        """Remove an execution; the number of nodes removed."""
        return self._open().delete_execution(execution_id)

    def do_fork(self, execution_id: str, new_id: str) -> list[int]:
        """Copy an execution under a new id; ``[nodes, checkpoints]`` copied."""
        store = self._open()
        if find_execution(store, new_id) is not None:
            raise ConfigurationError(f"an execution {new_id!r} is there already; choose another id")
        copied = copy_execution(store, store, execution_id, new_id)
        return [copied.nodes, copied.checkpoints]

    def do_size(self) -> int:
        """Bytes that the store occupies."""
        return self._open().size_bytes()

    def close(self) -> None:
        """Disconnect from the store."""
        self._store.close()
        self._segments.close()


def _receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    with memoryview(data) as view:
        at = 0
        while at < size:
            got = sock.recv_into(view[at:])
            if not got:
                raise EOFError
            at += got
    return bytes(data)


def _message(sock: socket.socket) -> list[Any]:
    (length,) = LENGTH.unpack(_receive(sock, LENGTH.size))
    return parse(_receive(sock, length))


def main() -> int:
    """``store_worker ROLE SOCKET_FD PARENT_PID``."""
    role, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    leave_signals_to_parent()
    die_with_parent(parent)
    yield_to_agents()
    logging.basicConfig(format=f"%(asctime)s {role} %(levelname)s %(message)s")
    # EOFError, OSError: the dispatcher has closed the connection, or is gone.
    with contextlib.suppress(EOFError, OSError), socket.socket(fileno=fd) as sock:
        config = ServiceConfig(**_message(sock)[1])
        with contextlib.closing(StoreWorker(config.spec().build())) as worker:
            sock.sendall(frame(Message.HELLO, os.getpid()))
            _serve(sock, worker)
    return 0


def _serve(sock: socket.socket, worker: StoreWorker) -> None:
    while True:
        _, number, verb, arguments = _message(sock)
        try:
            reply = frame(Message.RESPONSE, number, True, worker.handle(verb, arguments))
        except Exception as error:
            reply = frame(Message.RESPONSE, number, False, error_parts(error))
        sock.sendall(reply)


if __name__ == "__main__":
    sys.exit(main())
