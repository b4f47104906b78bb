"""The saves of conversations: read by everybody, appended by the owner of an execution."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pydantic_ai.conversation_store import ConversationEntry

from livingai.adapters.moments import Moments
from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.pydantic_ai import saves
from livingai.adapters.pydantic_ai.chains import ConversationPlace
from livingai.adapters.pydantic_ai.saves import NO_SAVE, SavedRecord
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.turns import Turns
from livingai.node import ExecutionNode
from livingai.outcome import Durability
from livingai.runs.ports import OwnedClaim
from livingai.stores.ranges import NodeRange

#: Of so many conversations this process remembers the end, so that a save asks nobody.
_REMEMBERED: Final = 4096
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class SaveEnd:
    """A conversation's newest save, true for as long as this process holds the claim."""

    claim: OwnedClaim
    save: SavedRecord


class ConversationLog:
    """Saves of an engine's conversations. Thread-safe; whoever compares and appends has the
    conversation's turn (:attr:`turns`)."""

    def __init__(self, log: SharedLog, durability: Durability | None) -> None:
        self.shared = log
        self._owned = OwnedLog(log)
        self._durability = durability
        self.turns = Turns()
        self._moments = Moments()
        self._lock = threading.Lock()
        self._ends: collections.OrderedDict[str, SaveEnd] = collections.OrderedDict()

    # -- reading --

    async def newest(self, execution_id: str) -> SavedRecord:
        """The newest save of all processes.

        Raises:
            CorruptRowError: another program has written it.
            LivingAIError: as :meth:`SharedLog.nodes_between`, and what became known of earlier
                saves of this process.
        """
        self.shared.check(execution_id)
        page = await self.shared.nodes_between(execution_id, saves.saves_range(execution_id))
        return saves.read_save(page.nodes[0].node) if page.nodes else NO_SAVE

    async def stored(self, node: ExecutionNode) -> bool:
        """Whether a node is there."""
        asked = NodeRange(node.id, node.id + "\0", limit=1, states=False)
        return bool(await self.shared.nodes_between(node.execution_id, asked))

    async def known(self, execution_id: str) -> SavedRecord:
        """The newest save, without a question if this process is the owner."""
        end = self._end(execution_id)
        return await self.newest(execution_id) if end is None else end.save

    async def own(self, execution_id: str) -> SaveEnd:
        """The newest save, with this process as the owner."""
        end = self._end(execution_id)
        if end is None:
            claim = await self._owned.take_over(execution_id)
            end = SaveEnd(claim, await self.newest(execution_id))
            self._remember(execution_id, end)
        return end

    def _end(self, execution_id: str) -> SaveEnd | None:
        self.shared.check(execution_id)
        with self._lock:
            end = self._ends.get(execution_id)
        if end is not None and not self._owned.holds(execution_id, end.claim):
            return None
        return end

    def _forget(self, execution_id: str) -> None:
        with self._lock:
            self._ends.pop(execution_id, None)

    def _remember(self, execution_id: str, end: SaveEnd) -> None:
        with self._lock:
            self._ends[execution_id] = end
            self._ends.move_to_end(execution_id)
            if len(self._ends) > _REMEMBERED:
                self._ends.popitem(last=False)

    # -- writing --

    def next_id(self, execution_id: str, after: SavedRecord) -> str:
        """The id of a save that follows ``after``."""
        return saves.save_id(execution_id, after.number + 1, self._moments.next())

    async def append(
        self,
        end: SaveEnd,
        node: ExecutionNode,
        state: object,
        new_entries: Iterable[ConversationEntry] = (),
    ) -> bool:
        """Save as the owner: where the new entries will be, and then, with them, the record. False:
        another process has become the owner, and what was saved is there or not; look.

        Raises:
            LivingAIError: as :meth:`OwnedLog.append_under`.
        """
        execution_id = node.execution_id
        self._forget(execution_id)  # after an error, or a cancelled wait, nobody knows it
        for each in new_entries:
            where = saves.entry_node(execution_id, each.id, node.id)
            if not await self._owned.append_under(end.claim, where, durability=Durability.JOURNAL):
                return False
        if not await self._owned.append_under(end.claim, node, state, durability=self._durability):
            return False
        self._remember(execution_id, SaveEnd(end.claim, saves.read_save(node)))
        return True

    async def share(self, place: ConversationPlace) -> bool:
        """Have the entries of a conversation stay when it is deleted; False: they are gone."""
        node = saves.share_node(place.execution_id, self._moments.next())
        async with self.turns.of(place.execution_id):
            while True:
                end = await self.own(place.execution_id)
                if place.number <= end.save.floor:
                    return False
                if await self._owned.append_under(end.claim, node, durability=self._durability):
                    return True

    async def drop(self, execution_id: str, floor: int) -> None:
        """Give back the space of what is gone up to a number; of the newest node, nothing."""
        pages: list[NodeRange] = [
            saves.saves_range(execution_id, limit=_PAGE), saves.entries_range(_PAGE)
        ]  # fmt: skip
        for first in pages:
            asked: NodeRange | None = first
            while asked is not None:
                page = await self.shared.nodes_between(execution_id, asked)
                gone = [each.node.id for each in page if saves.save_number(each.node) <= floor]
                if gone:
                    await self.shared.engine.drop_nodes(execution_id, gone)
                asked = page.rest
