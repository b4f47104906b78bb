"""Items of a shared log: written, read, listed, and cleaned of what nobody needs.

Every method that waits is a generator of steps (:mod:`livingai.adapters.steps`). Reads see what any
process of this machine has written before. Nothing is read before a write, so a write takes as long
as the journal does, whatever the database does.

What a newer entry has overtaken is removed later, in this order: the entry that takes its place is
in the store; what it overtakes is dropped. So a process that is killed in the midst leaves too much
and never too little. The mark of a deletion stays for :data:`_DELETED_S`: an older value that
another machine had in its memory, and saves late, does not come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.langgraph.item_names import ItemNames, Namespace, group_of
from livingai.adapters.langgraph.items import ItemChange, StoredItem
from livingai.adapters.moments import MOMENT_CHARS, Moments
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.protocol.ranges import NodePage
from livingai.stores.ranges import NodeRange

#: Entries in a page; pages end earlier where values are large.
_PAGE: Final = 500
#: Groups that are asked for at once.
_AT_ONCE: Final = 64
_FEW: Final = 16
#: Entries that are removed in one request.
_CHUNK: Final = 1000
#: How long the mark of a deletion stays (s).
_DELETED_S: Final = 3600.0


class ItemLog:
    """The items of one store. Thread-safe.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    def __init__(
        self, engine: CheckpointEngine, names: ItemNames, durability: Durability | None = None
    ) -> None:
        check_engine(engine)
        check_durability(durability)
        self.engine = engine
        self.names = names
        self.log = SharedLog(engine)
        self._durability = durability
        self._moments = Moments()

    # -- writing --

    def write(self, changes: Iterable[ItemChange]) -> Steps[None]:
        """Append changes, one after the other.

        Raises:
            LivingAIError: as :meth:`SharedLog.append`; the changes before the failed one are made.
        """
        for change in changes:
            yield from self._append(change.node(self.names, self._moments.next()))

    def touch(self, items: Iterable[StoredItem]) -> Steps[None]:
        """Let items live their full time from now on."""
        now = time.time()
        for item in items:
            node = item.touched(self.names, now)
            if node is not None:
                yield from self._append(node)

    def _append(self, node: ExecutionNode) -> Steps[None]:
        yield Step(self.log, "append", node, durability=self._durability)

    # -- reading --

    def read(self, groups: Sequence[str]) -> Steps[list[StoredItem]]:
        """What is known of some items; ``groups`` are their names
        (:meth:`~livingai.adapters.langgraph.items.ItemNames.group`).

        Raises:
            LivingAIError: as :meth:`SharedLog.nodes_between`, and what became known of earlier
                writes of this process.
        """
        self.log.check(self.names.execution_id)
        found: list[StoredItem] = []
        for at in range(0, len(groups), _AT_ONCE):
            part = groups[at : at + _AT_ONCE]
            asked = [NodeRange(g, behind_prefix(g), _FEW, states=False) for g in part]
            pages: list[NodePage] = yield Step(
                self.log, "node_pages", self.names.execution_id, asked
            )
            for group, page in zip(part, pages, strict=True):
                item = StoredItem(group)
                self._saw(page)
                entries = list(page)
                rest = page.rest
                while rest is not None:
                    more = yield from self._page(rest)
                    entries += more
                    rest = more.rest
                for entry in entries:
                    item.add(entry)
                found.append(item)
        return found

    def walk(self, start: str, skip: Callable[[StoredItem], str | None] | None = None) -> ItemWalk:
        """All items whose entries' ids begin with ``start``; see :class:`ItemWalk`."""
        self.log.check(self.names.execution_id)
        return ItemWalk(self._page, start, skip)

    def _page(self, asked: NodeRange) -> Steps[NodePage]:
        page: NodePage = yield Step(self.log, "nodes_between", self.names.execution_id, asked)
        self._saw(page)
        return page

    def _saw(self, page: NodePage) -> None:
        for entry in page:
            at = entry.node.id.rindex("/") + 1
            self._moments.saw(entry.node.id[at : at + MOMENT_CHARS])

    # -- giving space back --

    def clean(self, groups: Sequence[str]) -> Steps[None]:
        """Remove what nobody needs any more of some items."""
        for at in range(0, len(groups), _AT_ONCE):
            now = time.time()
            items = yield from self.read(groups[at : at + _AT_ONCE])
            yield from self._clean(items, now)

    def sweep(self) -> Steps[int]:
        """Remove all items that have expired, and what nobody needs any more of the others; how
        many had expired."""
        walk, expired, now = self.walk(self.names.below(())), 0, time.time()
        while (items := (yield from walk.next())) is not None:
            expired += yield from self._clean(items, now)
        return expired

    def _clean(self, items: Iterable[StoredItem], now: float) -> Steps[int]:
        """``now``: a time before the items were read. An item that had not expired by then may have
        been touched since, so it stays."""
        expired = 0
        gone: list[str] = []
        for item in items:
            born = item.born(self.names)
            if item.is_expired(now):
                expired += 1
            elif born is not None:
                yield from self._append(born)
            gone += item.removable(now, now - _DELETED_S)
        yield from self._drop(gone)
        return expired

    def _drop(self, entry_ids: Sequence[str]) -> Steps[None]:
        for at in range(0, len(entry_ids), _CHUNK):
            part = list(entry_ids[at : at + _CHUNK])
            yield Step(self.engine, "drop_nodes", self.names.execution_id, part)

    def clear(self, namespaces: Sequence[Namespace] | None) -> Steps[None]:
        """Remove all items of some namespaces, but not of those below them; None: all items."""
        # What was written last cannot be dropped, and that is this, then.
        node_id = f"{self.names.execution_id}/cleared"
        about = {"framework": self.names.framework, "name": "cleared"}
        yield from self._append(
            ExecutionNode(
                self.names.execution_id, NodeType.MEMORY, Status.SUCCESS, id=node_id, metadata=about
            )
        )
        starts = [self.names.below(())] if namespaces is None else map(self.names.keys, namespaces)
        for start in starts:
            walk = self.walk(start)
            while (items := (yield from walk.next())) is not None:
                yield from self._drop([each for item in items for each in item.entries])


class ItemWalk:
    """Items in order of their entries' ids, of which a page at a time is in memory."""

    def __init__(
        self,
        page: Callable[[NodeRange], Steps[NodePage]],
        start: str,
        skip: Callable[[StoredItem], str | None] | None,
    ) -> None:
        """``skip`` is asked behind each page about the last item of it: with which id to go on
        (None: with the next one)."""
        self._page = page
        self._behind = behind_prefix(start)
        self._rest: NodeRange | None = NodeRange(start, self._behind, _PAGE, states=False)
        self._skip = skip
        #: Its entries may go on in the next page.
        self._last: StoredItem | None = None

    def next(self) -> Steps[list[StoredItem] | None]:
        """The items that end in the next page (perhaps none); None: there are no more pages.

        Raises:
            LivingAIError: as :meth:`ItemLog.read`.
        """
        if self._rest is None:
            return None
        page = yield from self._page(self._rest)
        ended: list[StoredItem] = []
        item = self._last
        for entry in page:
            group = group_of(entry.node.id)
            if item is None or item.group != group:
                if item is not None:
                    ended.append(item)
                item = StoredItem(group)
            item.add(entry)
        self._last, self._rest = item, page.rest
        if item is not None and self._rest is not None and self._skip is not None:
            to = self._skip(item)
            if to is not None:
                rest = NodeRange(to, self._behind, _PAGE, states=False)
                self._rest = rest if to < self._behind else None
        if item is not None and self._rest is None:
            ended.append(item)
            self._last = None
        return ended
