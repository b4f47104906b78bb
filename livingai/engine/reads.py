"""Reading checkpoints: from this process's journal, the shared hot cache, or the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar, get_args

from livingai import serial
from livingai.asked import check_text, shown
from livingai.config import DEFAULT_MAX_STATE_BYTES
from livingai.engine.cache import Ask, is_older
from livingai.engine.handle import DirectoryHandle
from livingai.engine.lifecycle import EngineLifecycle
from livingai.engine.pending import OwnedExecution
from livingai.errors import ConfigurationError, CorruptRecordError, ServiceUnavailableError
from livingai.node import ExecutionNode
from livingai.protocol import verbs
from livingai.protocol.executions import ExecutionPage, page_of, page_request
from livingai.protocol.history import History, place_of, unpack_history
from livingai.protocol.ranges import NodePage, RangesAsked, states_bytes, unpack_page
from livingai.protocol.sections import Cached, decode_checkpoint, decode_state
from livingai.protocol.verbs import Answer, PackedPage, Verb
from livingai.queue.layout import StateKind, offset_of, segment_of
from livingai.queue.patch import with_state
from livingai.queue.record import read_record
from livingai.stores.base import CostLine, ExecutionFilter, NodeRange

CostGroup = Literal["execution", "name", "day"]
T = TypeVar("T")
#: States of a page from so many bytes on are unpacked beside the event loop.
_LARGE_BYTES: Final = 1 << 18


class CheckpointReader(EngineLifecycle):
    """The reading half of :class:`~livingai.CheckpointEngine`.

    Each read tries, in order: the own journal, the hot cache (other processes' journals), the
    service, which waits for queued writes and reads the store.
    """

    async def latest(self, execution_id: str) -> tuple[ExecutionNode, Any]:
        """The newest checkpoint of an execution: its node, and the state saved with it.

        Where the execution has nodes but no state yet: its newest node and None.

        Newest among the processes of this state directory and what the store has. A process of
        another state directory (another host on the same store) marks nothing here: until this
        host claims the execution (:meth:`claim`, a run), or ``cache_ttl_s`` has passed since its
        own last write, it may be given that one.

        Raises:
            ExecutionNotFoundError: it has no node, neither queued nor stored.
            ServiceUnavailableError: the cache does not know and the service does not answer.
        """
        check_text(execution_id, "execution_id")
        hit = self._cached_latest(execution_id)
        if hit is not None:
            return hit
        answer = await self._ask(verbs.LATEST, execution_id, *self._limit())
        return decode_checkpoint(*answer, execution_id)

    def latest_sync(self, execution_id: str) -> tuple[ExecutionNode, Any]:
        """Twin of :meth:`latest`."""
        check_text(execution_id, "execution_id")
        hit = self._cached_latest(execution_id)
        if hit is not None:
            return hit
        answer = self._ask_sync(verbs.LATEST, execution_id, *self._limit())
        return decode_checkpoint(*answer, execution_id)

    async def load(self, node_id: str) -> tuple[ExecutionNode, Any]:
        """A node in its newest version, and the newest state that it was saved with (or None).

        Raises:
            NodeNotFoundError: there is no such node, neither queued nor stored.
            ServiceUnavailableError: the cache does not know and the service does not answer.
        """
        check_text(node_id, "node_id")
        hit = self._cached_node(node_id)
        if hit is not None:
            return hit
        answer = await self._ask(verbs.LOAD, node_id, *self._limit())
        return decode_checkpoint(*answer, None)

    def load_sync(self, node_id: str) -> tuple[ExecutionNode, Any]:
        """Twin of :meth:`load`."""
        check_text(node_id, "node_id")
        hit = self._cached_node(node_id)
        if hit is not None:
            return hit
        answer = self._ask_sync(verbs.LOAD, node_id, *self._limit())
        return decode_checkpoint(*answer, None)

    async def nodes(self, execution_id: str) -> list[ExecutionNode]:
        """All nodes of an execution in their newest versions, in the order of their first save.

        Raises:
            ExecutionNotFoundError, ServiceUnavailableError: as :meth:`latest`.
        """
        check_text(execution_id, "execution_id")
        return self._node_list(execution_id, await self._ask(verbs.NODES, execution_id))

    def nodes_sync(self, execution_id: str) -> list[ExecutionNode]:
        """Twin of :meth:`nodes`."""
        check_text(execution_id, "execution_id")
        return self._node_list(execution_id, self._ask_sync(verbs.NODES, execution_id))

    async def history(
        self, execution_id: str, *, behind_checkpoint: bool = False, known: Cached | None = None
    ) -> History:
        """All nodes with their versions, and the newest checkpoint; ``behind_checkpoint``: only
        nodes that were written after it, or are RUNNING.

        One consistent answer, for recovery: the state comes from the hot cache if it has the very
        write that the store calls the newest. ``known`` is what :meth:`cached` gave earlier.

        Raises:
            ExecutionNotFoundError, ServiceUnavailableError: as :meth:`latest`.
        """
        known = self._known(execution_id, known)
        answer = await self._ask(
            verbs.HISTORY, execution_id, place_of(known), bool(behind_checkpoint), *self._limit()
        )
        return unpack_history(answer, known, execution_id)

    def history_sync(
        self, execution_id: str, *, behind_checkpoint: bool = False, known: Cached | None = None
    ) -> History:
        """Twin of :meth:`history`."""
        known = self._known(execution_id, known)
        answer = self._ask_sync(
            verbs.HISTORY, execution_id, place_of(known), bool(behind_checkpoint), *self._limit()
        )
        return unpack_history(answer, known, execution_id)

    async def nodes_between(self, execution_id: str, asked: NodeRange) -> NodePage:
        """A page of an execution's nodes in order of id, with their versions and states; what is
        queued for the execution is waited for. Empty where there is no such execution. A page may
        end before the range's limit, where states are large; ``page.rest`` is what follows.

        Raises:
            ConfigurationError: ``asked`` is no :class:`~livingai.NodeRange`.
            ServiceUnavailableError: the service does not answer.
        """
        request = _range_request(execution_id, asked)
        answer = await self._ask(verbs.NODES_BETWEEN, *request, *self._limit())
        return await _unpacked([answer], lambda: unpack_page(answer, asked, execution_id))

    def nodes_between_sync(self, execution_id: str, asked: NodeRange) -> NodePage:
        """Twin of :meth:`nodes_between`."""
        request = _range_request(execution_id, asked)
        answer = self._ask_sync(verbs.NODES_BETWEEN, *request, *self._limit())
        return unpack_page(answer, asked, execution_id)

    async def node_pages(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """The pages of several ranges of one execution, in their order, from one request (a further
        one for each 8 MB). Raises as :meth:`nodes_between`."""
        return await self._pages(verbs.NODE_PAGES, execution_id, asked)

    def node_pages_sync(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """Twin of :meth:`node_pages`."""
        return self._pages_sync(verbs.NODE_PAGES, execution_id, asked)

    async def stored_pages(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """As :meth:`node_pages`, of what the store has: what is queued is not waited for, and may
        be missing."""
        return await self._pages(verbs.STORED_PAGES, execution_id, asked)

    def stored_pages_sync(self, execution_id: str, asked: Sequence[NodeRange]) -> list[NodePage]:
        """Twin of :meth:`stored_pages`."""
        return self._pages_sync(verbs.STORED_PAGES, execution_id, asked)

    async def _pages(
        self, verb: Verb[list[PackedPage]], execution_id: str, asked: Sequence[NodeRange]
    ) -> list[NodePage]:
        ranges = _ranges_asked(execution_id, asked)
        while ranges.left:
            answers = await self._ask(verb, execution_id, ranges.to_wire(), *self._limit())
            await _unpacked(answers, partial(ranges.take, answers))
        return ranges.pages

    def _pages_sync(
        self, verb: Verb[list[PackedPage]], execution_id: str, asked: Sequence[NodeRange]
    ) -> list[NodePage]:
        ranges = _ranges_asked(execution_id, asked)
        while ranges.left:
            answers = self._ask_sync(verb, execution_id, ranges.to_wire(), *self._limit())
            ranges.take(answers)
        return ranges.pages

    def cached(self, execution_id: str) -> Cached | None:
        """The newest state as far as the hot cache knows; sends no request."""
        check_text(execution_id, "execution_id")
        hit = self.open_handle().cache.latest(execution_id)
        return None if isinstance(hit, Ask) else hit

    def _known(self, execution_id: str, known: Cached | None) -> Cached | None:
        check_text(execution_id, "execution_id")
        if known is not None and not isinstance(known, Cached):
            raise ConfigurationError(f"known must be what cached() gave, not {shown(known)}")
        return known or self.cached(execution_id)

    async def executions(
        self,
        *,
        where: ExecutionFilter | None = None,
        prefix: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> ExecutionPage:
        """A page of executions in order of id: those whose ids begin with ``prefix``, come behind
        ``after``, and fit ``where``. At most ``limit`` of them (1 to 10000).

        Everything that was accepted before is waited for, so that the page shows it. The next page
        begins ``after=page.next_after``; None: there is none. The store reads a page from its index
        of ids, whatever lies before or behind it. With a filter it reads on along that index until
        the page is full: one that few executions fit, and any filter on metadata, for which it
        reads a node of each execution, may look at all executions with that prefix.

        Raises:
            ConfigurationError: the limit or the filter makes no sense.
            ServiceUnavailableError: the service does not answer.
        """
        request = page_request(after, limit, prefix, where)
        return page_of(await self._ask(verbs.EXECUTIONS, *request), limit)

    def executions_sync(
        self,
        *,
        where: ExecutionFilter | None = None,
        prefix: str = "",
        after: str | None = None,
        limit: int = 100,
    ) -> ExecutionPage:
        """Twin of :meth:`executions`."""
        request = page_request(after, limit, prefix, where)
        return page_of(self._ask_sync(verbs.EXECUTIONS, *request), limit)

    async def costs(self, group: CostGroup = "execution", prefix: str = "") -> list[CostLine]:
        """Tokens and milliseconds, summed over the executions whose ids begin with ``prefix``.

        ``group`` is "execution", "name" (of the node, else its type) or "day" (UTC); one line for
        each, in order. Each node counts once, in its newest version; queued writes are waited for.

        Raises:
            ConfigurationError: there is no such group.
            ServiceUnavailableError: the service does not answer.
        """
        return await self._ask(verbs.COSTS, *_costs(group, prefix))

    def costs_sync(self, group: CostGroup = "execution", prefix: str = "") -> list[CostLine]:
        """Twin of :meth:`costs`."""
        return self._ask_sync(verbs.COSTS, *_costs(group, prefix))

    def _cached_latest(self, execution_id: str) -> tuple[ExecutionNode, Any] | None:
        handle = self.open_handle()
        owned = handle.owned.get(execution_id)
        if owned is not None and owned.state_at:
            own = self._own_latest(handle, owned, execution_id)
            if own is not None:
                return own
        hit = handle.cache.latest(execution_id)
        return None if isinstance(hit, Ask) else (hit.node, hit.state)

    def _own_latest(
        self, handle: DirectoryHandle, owned: OwnedExecution, execution_id: str
    ) -> tuple[ExecutionNode, Any] | None:
        """Fast path: our own newest record, unless another process has taken over."""
        journal, own = handle.journal, handle.own_segments
        if journal is None or own is None:
            return None
        with handle.lock:
            at = owned.state_at
            if not at or handle.owned.get(execution_id) is not owned:
                return None  # claimed anew, or fenced, since it was looked at
            if handle.closed or not journal.index.owns(owned.slot, owned.key):
                return None
            if journal.index.taken(owned.slot) > owned.claim:
                return None
            with own.lock:
                try:
                    segment = own.get(segment_of(at))
                    if segment is None:
                        return None
                    record = with_state(own, read_record(segment.view, offset_of(at)))
                except CorruptRecordError:
                    own.drop(segment_of(at))
                    return None
                except OSError:  # out of descriptors: the next source may know
                    return None
        if record.header.segment != segment_of(at) or record.header.execution_hash != owned.key:
            return None
        if is_older(record.header, self.config.cache_ttl_s * 1e9):
            return None
        node = ExecutionNode.from_wire(serial.unpack(record.node))  # type: ignore[arg-type]
        if node.execution_id != execution_id:
            return None
        return node, decode_state(record.header.state_kind, record.state)

    def _cached_node(self, node_id: str) -> tuple[ExecutionNode, Any] | None:
        """A recent node whose newest version carries its state; else None: ask the store."""
        hit = self.open_handle().cache.node(node_id)
        if isinstance(hit, Ask) or hit.record.header.state_kind == StateKind.NONE:
            return None
        return hit.node, hit.state

    def _limit(self) -> tuple[int, ...]:
        """The largest state that this engine takes, if that is not the usual size: a forged row
        must not fill the memory of reader and agent."""
        limit = self.config.max_state_bytes
        return () if limit == DEFAULT_MAX_STATE_BYTES else (limit,)

    @staticmethod
    def _node_list(execution_id: str, answer: list[Any]) -> list[ExecutionNode]:
        return [recorded.node for recorded in unpack_history(answer, None, execution_id).nodes]

    async def _ask(self, verb: Verb[Answer], *arguments: Any) -> Answer:
        asked = self.open_handle().connection.request(verb.name, *arguments)
        try:
            async with asyncio.timeout(self.config.service_timeout_s):
                answer = await asked
        except TimeoutError as error:
            raise self._no_answer(verb.name) from error
        finally:
            asked.cancel()
        return verb.read(answer)

    def _ask_sync(self, verb: Verb[Answer], *arguments: Any) -> Answer:
        asked = self.open_handle().connection.request(verb.name, *arguments)
        try:
            answer = asked.result(self.config.service_timeout_s)
        except TimeoutError as error:
            raise self._no_answer(verb.name) from error
        finally:
            asked.cancel()
        return verb.read(answer)

    def _no_answer(self, verb: str) -> ServiceUnavailableError:
        last_error = self.open_handle().connection.last_error
        why = f": {last_error}" if last_error else ""
        return ServiceUnavailableError(
            f"the service did not answer {verb!r} within {self.config.service_timeout_s} s{why}. "
            "Nothing is lost; see `livingai status` and service.log in the state directory."
        )


def _range_request(execution_id: str, asked: NodeRange) -> list[Any]:
    check_text(execution_id, "execution_id")
    if not isinstance(asked, NodeRange):
        raise ConfigurationError(f"a range of nodes is a NodeRange, not {shown(asked)}")
    return [execution_id, asked.to_wire()]


def _ranges_asked(execution_id: str, asked: Sequence[NodeRange]) -> RangesAsked:
    for each in asked:
        _range_request(execution_id, each)
    return RangesAsked(execution_id, asked)


async def _unpacked(answers: Sequence[PackedPage], unpack: Callable[[], T]) -> T:
    """What ``unpack()`` gives: called in another thread where the states are so large that the
    event loop should not wait for them."""
    if states_bytes(answers) < _LARGE_BYTES:
        return unpack()
    return await asyncio.to_thread(unpack)


def _costs(group: CostGroup, prefix: str) -> list[Any]:
    groups = get_args(CostGroup)
    if group not in groups:
        raise ConfigurationError(f"group must be one of {', '.join(groups)}, not {shown(group)}")
    check_text(prefix, "prefix")
    return [group, prefix]
