"""What the reader does: answers from the store, decoded and ready for an agent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from livingai import serial
from livingai.config import DEFAULT_MAX_STATE_BYTES
from livingai.errors import ExecutionNotFoundError, NodeNotFoundError
from livingai.node import NodeField, Status
from livingai.protocol.executions import executions_to_wire, filter_from_wire
from livingai.protocol.history import pack_history
from livingai.stores.base import NodeRange, SizedBlob, StoredCheckpoint
from livingai.stores.checked import rows_of
from livingai.stores.states import StateDecoder
from livingai.workers.store.role import Role

#: From so many bytes on, a page of a range of nodes ends.
_PAGE_BYTES: Final = 8 << 20
#: For how many nodes with their states the store is asked first.
_FIRST_PART: Final = 16
#: States that are kept while such a page is decoded: many are bases of the next ones.
_REMEMBERED: Final = 4


class ReaderRole(Role):
    """Verbs of the reader."""

    def do_latest(self, execution_id: str, max_bytes: int = DEFAULT_MAX_STATE_BYTES) -> list[Any]:
        """``[node section, state kind, raw state or None]`` of the newest checkpoint. A state of
        more than ``max_bytes`` is not decoded."""
        found = self._open().latest_checkpoint(execution_id)
        if found is None:
            raise self._unknown(execution_id)
        return self._checkpoint(found, max_bytes)

    def do_load(self, node_id: str, max_bytes: int = DEFAULT_MAX_STATE_BYTES) -> list[Any]:
        """As :meth:`do_latest`, of one node."""
        found = self._open().load_node(node_id)
        if found is None:
            raise NodeNotFoundError(f"no node {node_id!r} in {self._store.url}, and none is queued")
        return self._checkpoint(found, max_bytes)

    def _checkpoint(self, found: StoredCheckpoint, max_bytes: int) -> list[Any]:
        raw = None
        if found.blob is not None:
            decoder = StateDecoder(
                self._store, str(found.wire[NodeField.EXECUTION_ID]), max_bytes=max_bytes
            )
            raw = decoder.decode(SizedBlob(found.blob, found.raw_bytes), found.content_hash)
        return [serial.pack(found.wire), found.state_kind, raw]

    def do_nodes(self, execution_id: str) -> list[Any]:
        """A message of :mod:`livingai.protocol.history` with all nodes and no state."""
        with rows_of(execution_id, self._store.url):
            message = pack_history(None, None, self._open().packed_nodes(execution_id))
        if not message[-1]:
            raise self._unknown(execution_id)
        return message

    def _unknown(self, execution_id: str) -> ExecutionNotFoundError:
        return ExecutionNotFoundError(
            f"no execution {execution_id!r} in {self._store.url}, and none is queued"
        )

    def do_history(
        self,
        execution_id: str,
        have: list[Any] | None,
        behind_checkpoint: bool,
        max_bytes: int = DEFAULT_MAX_STATE_BYTES,
    ) -> list[Any]:
        """A message of :mod:`livingai.protocol.history`: all nodes, or with ``behind_checkpoint``
        those that were written after the newest checkpoint or still run. ``have`` is ``[node id,
        seq, owner]`` of the state that the agent has already."""
        store = self._open()
        nodes = store.packed_nodes(execution_id)
        found = store.latest_checkpoint(execution_id)
        if found is None:
            raise self._unknown(execution_id)
        if found.blob is None:
            with rows_of(execution_id, store.url):
                return pack_history(None, None, nodes)
        version = (found.epoch, found.seq)
        owner = dict(store.owners(execution_id)).get(found.epoch)
        state: list[Any] | None = None
        if have != [found.wire[NodeField.ID], found.seq, owner]:
            _, kind, raw = self._checkpoint(found, max_bytes)
            state = [kind, raw]
        if behind_checkpoint:
            nodes = (
                node
                for node in nodes
                if (node.epoch, node.seq) > version or node.status == Status.RUNNING
            )
        with rows_of(execution_id, store.url):
            return pack_history((found.wire[NodeField.ID], *version, owner), state, nodes)

    def do_nodes_between(
        self, execution_id: str, wire: list[Any], max_bytes: int = DEFAULT_MAX_STATE_BYTES
    ) -> list[Any]:
        """The nodes of a range, with their versions and states, and whether more may follow. Ends
        early once they have :data:`_PAGE_BYTES`."""
        decoder = self._decoder(execution_id, max_bytes)
        return self._page(execution_id, NodeRange.from_wire(wire), decoder)[0]

    def do_node_pages(
        self, execution_id: str, wires: list[Any], max_bytes: int = DEFAULT_MAX_STATE_BYTES
    ) -> list[Any]:
        """As :meth:`do_nodes_between`, of several ranges. Once all have :data:`_PAGE_BYTES`, those
        that are left are not looked at: empty, and more may follow."""
        ranges = [NodeRange.from_wire(wire) for wire in wires]
        decoder = self._decoder(execution_id, max_bytes)
        pages: list[Any] = []
        room = _PAGE_BYTES
        for asked in ranges:
            page, size = [[], True], 0
            if room > 0:
                page, size = self._page(execution_id, asked, decoder, room)
            pages.append(page)
            room -= size
        return pages

    def do_stored_pages(self, *arguments: Any) -> list[Any]:
        """As :meth:`do_node_pages`; the dispatcher has not waited for what is queued."""
        return self.do_node_pages(*arguments)

    def _decoder(self, execution_id: str, max_bytes: int) -> StateDecoder:
        return StateDecoder(self._open(), execution_id, max_bytes=max_bytes, remembered=_REMEMBERED)

    def _page(
        self, execution_id: str, asked: NodeRange, decoder: StateDecoder, room: int = _PAGE_BYTES
    ) -> tuple[list[Any], int]:
        """The nodes of a range, and whether more may follow; and how large they are (bytes). The
        store is asked for a few, and then for as many as may fit: it reads all states of an answer
        at once."""
        store = self._open()
        page: list[list[Any]] = []
        size = 0
        part = _FIRST_PART if asked.states else asked.limit
        rest = asked
        while True:
            wanted = min(part, asked.limit - len(page))
            found = store.nodes_between(execution_id, replace(rest, limit=wanted))
            for entry in found:
                raw = None
                if entry.blob is not None:
                    blob = SizedBlob(entry.blob, entry.raw_bytes)
                    raw = decoder.decode(blob, entry.content_hash)
                section = serial.pack(entry.wire)
                page.append([section, entry.epoch, entry.seq, *entry.first, entry.state_kind, raw])
                size += len(section) + len(raw or b"")
                if size > room:
                    return [page, True], size
            if len(found) < wanted or len(page) == asked.limit:
                return [page, len(found) == wanted], size
            rest = rest.rest(found[-1].node_id)
            # As many as fit if they are as large as those so far.
            part = max(1, (room - size) * len(page) // max(1, size))

    def do_checkpoints(self, execution_id: str) -> list[list[Any]]:
        """What is known of an execution's checkpoints, oldest first; fields of
        :class:`~livingai.protocol.verbs.StateSize`. Empty where there is no such execution."""
        store = self._open()
        with rows_of(execution_id, store.url):
            return [
                [c.node_id, c.epoch, c.seq, c.raw_bytes, c.stored_bytes, c.base_hash is not None,
                 c.saved_at]
                for c in store.checkpoints(execution_id, blobs=False)
            ]  # fmt: skip

    def do_costs(self, group: str, prefix: str) -> list[list[Any]]:
        """Sums; fields of :class:`~livingai.stores.base.CostLine`."""
        return [
            [line.group, line.nodes, line.cost_tokens, line.latency_ms]
            for line in self._open().costs(group=group, prefix=prefix)
        ]

    def do_executions(
        self, after: str | None, limit: int, prefix: str, where: list[Any] | None = None
    ) -> list[list[Any]]:
        """A page of executions and its filter, as :mod:`livingai.protocol.executions` says."""
        page = self._open().list_executions(
            after=after, limit=limit, prefix=prefix, where=filter_from_wire(where)
        )
        return executions_to_wire(page)

    def do_size(self) -> int:
        """Bytes that the store occupies."""
        return self._open().size_bytes()
