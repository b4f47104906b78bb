"""``LivingAISession``: the SDK's session, written by any number of processes.

A session is an execution of which each ``add_items`` makes one node with all its items, so that
they are there together or not at all. An item is taken away by another node, a *mark*, which names
it; so two processes never write the same node, and no write puts out another one
(:mod:`livingai.adapters.shared_log`).

Of two that pop at the same time, both mark the same item. Whose mark the store has first gets it,
and the other one tries the next item. A mark is stored before this is looked at, and what is stored
later has a greater version, so both see the same first mark.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from agents.memory import SessionSettings
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from livingai.adapters.arguments import check_durability
from livingai.adapters.names import behind_prefix, execution_name
from livingai.adapters.openai_agents.arguments import (
    FRAMEWORK,
    MOMENTS,
    check_place,
)
from livingai.adapters.openai_agents.items import decode_items, encode, without_orphans
from livingai.adapters.shared_log import SharedLog
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.protocol.ranges import NodePage
from livingai.stores.ranges import MAX_NODES, NodeRange

#: Nodes that a read asks for at once, if it needs all.
_PAGE: Final = 1_000
#: At least so many are asked for where a few are needed: some may have been popped.
_FEW: Final = 32


class _Item(NamedTuple):
    """An item of a session, the sortable id of the entry that it was added with, and its place
    there."""

    entry: str
    place: int
    value: Any

    @property
    def name(self) -> str:
        return f"{self.entry}.{self.place:06d}"


class LivingAISession:
    """A conversation's history, as ``session=`` of ``Runner.run``.

    Args:
        engine: where it is stored; stays yours to close.
        session_id: any text; the same for all processes that take part.
        session_settings: as for the SDK's own sessions: ``SessionSettings(limit=...)`` or a dict.
        durability: what ``add_items`` waits for; by default the engine's own, JOURNAL: items
            survive kill -9 of any process.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    session_settings: SessionSettings | None = None

    def __init__(
        self,
        engine: CheckpointEngine,
        session_id: str,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        durability: Durability | None = None,
    ) -> None:
        check_place(engine, session_id, "session_id")
        check_durability(durability)
        self.engine = engine
        self.session_id = session_id
        self.session_settings = (
            SessionSettings()
            if session_settings is None
            else coerce_session_settings(session_settings)
        )
        self.durability = durability
        #: The execution that is this session.
        self.execution_id = execution_name(FRAMEWORK, "session", session_id)
        self._log = SharedLog(engine)
        self._entries = f"{self.execution_id}/items/"
        self._marks = f"{self.execution_id}/popped/"
        self._clears = execution_name(FRAMEWORK, "cleared", session_id)

    def __repr__(self) -> str:
        return f"<LivingAISession {self.session_id!r}>"

    # -- the protocol --

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[Any]:
        """The newest ``limit`` items, oldest first; None: as ``session_settings`` say, or all.

        What any process has added before the call is among them. The output of a tool whose call
        is not among them is left out, so there may be fewer.

        Raises:
            ServiceUnavailableError: the service does not answer.
            CorruptRowError: the store holds something else than items.
            RecordRefusedError: the store has refused an earlier entry for good. Raised once.
        """
        del wrapper  # of no use here; sessions that take it are told of the run's context
        self._log.check(self.execution_id)
        limit = resolve_session_limit(limit, self.session_settings)
        if limit is None or limit < 0:
            return without_orphans([item.value for item in await self._all()])
        return without_orphans([item.value for item in await self._newest(limit)])

    async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
        """Append items, all or none of them.

        Raises:
            StateEncodingError: an item is not made of plain JSON values.
            LivingAIError: as :meth:`CheckpointEngine.save <livingai.CheckpointEngine.save>`, and
                RecordRefusedError for an earlier entry. Nothing was added.
        """
        del wrapper
        if not items:
            self._log.check(self.execution_id)
            return
        text = encode(list(items), "an item of the session")
        node = self._node(f"{self._entries}{MOMENTS.next()}", "items", count=len(items))
        await self._log.append(node, text, durability=self.durability)

    async def pop_item(self, *, wrapper: Any = None) -> Any | None:
        """Take the newest item away, and return it; None: there is none. Once it returns, the item
        is gone from the store. Two calls, of whatever processes, never get the same item.

        Raises:
            As :meth:`get_items` and :meth:`add_items`.
        """
        del wrapper
        self._log.check(self.execution_id)
        while True:
            newest = await self._newest(1)
            if not newest:
                return None
            if await self._take(newest[0]):
                return newest[0].value

    async def clear_session(self, *, wrapper: Any = None) -> None:
        """Remove all items. What any process of this machine has added before the call is removed
        with the rest and does not come back; what is added later begins the session anew.

        Raises:
            ServiceUnavailableError: the service does not answer.
        """
        del wrapper
        self._log.check(self.execution_id)
        # Tools that were called before are no part of what begins now (ToolLedger).
        node = ExecutionNode(
            self._clears, NodeType.MEMORY, Status.SUCCESS,
            id=f"{self._clears}/clear/{MOMENTS.next()}",
            metadata={"framework": FRAMEWORK, "name": "clear_session"},
        )  # fmt: skip
        await self._log.append(node, durability=self.durability)
        await self.engine.delete(self.execution_id)

    # -- more than the protocol --

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has added.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds. Nothing is lost.
            RecordRefusedError: the store has refused an entry for good.
        """
        await self._log.flush(timeout)

    async def cleared_at(self) -> float:
        """When the session was cleared last (seconds since the Unix epoch); 0: never."""
        prefix = f"{self._clears}/clear/"
        asked = NodeRange(prefix, behind_prefix(prefix), 1, backwards=True, states=False)
        page = await self._log.nodes_between(self._clears, asked)
        return page.nodes[0].node.created_at if page.nodes else 0.0

    # -- reading --

    async def _all(self) -> list[_Item]:
        entries = NodeRange(self._entries, behind_prefix(self._entries), _PAGE)
        marks = NodeRange(self._marks, behind_prefix(self._marks), MAX_NODES, states=False)
        # In this order: an item that is popped in between was there when it was read.
        first, marked = await self._log.pages(self.execution_id, [entries, marks])
        items = self._items(first)
        async for page in self._rest(first):
            items += self._items(page)
        popped = self._popped(marked)
        async for page in self._rest(marked):
            popped |= self._popped(page)
        return [item for item in items if item.name not in popped]

    async def _newest(self, count: int) -> list[_Item]:
        """The newest ``count`` items, oldest first."""
        found: list[_Item] = []
        size = min(max(count, _FEW), _PAGE)
        asked = NodeRange(self._entries, behind_prefix(self._entries), size, backwards=True)
        behind = behind_prefix(self._marks)
        # Most sessions have no marks, or few: then all of them come along with the first items.
        all_marks = NodeRange(self._marks, behind, MAX_NODES, states=False)
        page, marked = await self._log.pages(self.execution_id, [asked, all_marks])
        known = self._popped(marked) if marked.rest is None else None
        while True:
            items = self._items(page, backwards=True)
            popped = known
            if popped is None and items:
                first = f"{self._marks}{items[-1].entry}"
                popped = await self._popped_between(first, behind)
                behind = first
            found += [item for item in items if item.name not in (popped or ())]
            if page.rest is None or len(found) >= count:
                return found[:count][::-1]
            (page,) = await self._log.pages(self.execution_id, [page.rest])

    def _items(self, page: NodePage, *, backwards: bool = False) -> list[_Item]:
        """The items of a page of entries, in its order, which may be ``backwards``."""
        found = []
        for each in page:
            entry = each.node.id.removeprefix(self._entries)
            MOMENTS.saw(entry)
            values = decode_items(each.state, each.node.id)
            found.append([_Item(entry, place, value) for place, value in enumerate(values)])
        return [item for items in found for item in (items[::-1] if backwards else items)]

    async def _rest(self, page: NodePage) -> AsyncIterator[NodePage]:
        while page.rest is not None:
            (page,) = await self._log.pages(self.execution_id, [page.rest])
            yield page

    def _popped(self, page: NodePage) -> set[str]:
        """Names of the items that are marked."""
        return {each.node.id.removeprefix(self._marks).partition("/")[0] for each in page}

    async def _popped_between(self, first: str, behind: str) -> set[str]:
        (page,) = await self._log.pages(
            self.execution_id, [NodeRange(first, behind, MAX_NODES, states=False)]
        )
        popped = self._popped(page)
        async for more in self._rest(page):
            popped |= self._popped(more)
        return popped

    # -- popping --

    async def _take(self, item: _Item) -> bool:
        """Mark an item; whether this mark is the first one."""
        prefix = f"{self._marks}{item.name}/"
        mark = self._node(f"{prefix}{MOMENTS.next()}", "pop_item", item=item.name)
        await self._log.append(mark, durability=Durability.STORE)
        page = await self._log.nodes_between(
            self.execution_id, NodeRange(prefix, behind_prefix(prefix), MAX_NODES, states=False)
        )
        if not page.nodes:
            return False  # the session was cleared meanwhile
        return min(page.nodes, key=lambda each: each.first).node.id == mark.id

    def _node(self, node_id: str, name: str, **about: Any) -> ExecutionNode:
        node = ExecutionNode(
            self.execution_id, NodeType.MEMORY, Status.SUCCESS, id=node_id,
            metadata={"framework": FRAMEWORK, "name": name, **about},
        )  # fmt: skip
        node.completed_at = node.created_at
        return node
