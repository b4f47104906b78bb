"""Reading the entries of conversations: each points at the one before it, perhaps of another
conversation, which this one was forked from."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, NamedTuple

from pydantic_ai.conversation_store import ConversationEntry

from livingai.adapters.pydantic_ai.saves import (
    entry_node_id,
    read_entries,
    read_save,
    save_number,
    saves_range,
)
from livingai.adapters.shared_log import SharedLog
from livingai.errors import CorruptRowError, NodeNotFoundError

#: Saves that are read at once.
_PAGE: Final = 200


class ConversationPlace(NamedTuple):
    """Where an entry is: its conversation's execution, and the save that it came with."""

    execution_id: str
    save: str
    number: int


async def locate(log: SharedLog, entry_id: str) -> ConversationPlace | None:
    """Where an entry is, or was meant to be: whether it is there, its save says. None: nowhere.

    Raises:
        CorruptRowError: another program has written that.
        ServiceUnavailableError: the service does not answer.
    """
    with suppress(NodeNotFoundError):
        node, _ = await log.engine.load(entry_node_id(entry_id))
        return ConversationPlace(
            node.execution_id, str(node.metadata.get("save")), save_number(node)
        )
    return None


async def find_entry(log: SharedLog, entry_id: str) -> tuple[ConversationPlace, ConversationEntry]:
    """An entry, and where it is.

    Raises:
        KeyError: there is no such entry.
        CorruptRowError, LivingAIError: as :func:`read_chain`.
    """
    place = await locate(log, entry_id)
    part = [] if place is None else await _part(log, place, entry_id, 1)
    if place is None or not part:
        raise KeyError(entry_id)
    return place, part[0]


async def read_chain(
    log: SharedLog, head_id: str | None, limit: int | None = None
) -> list[ConversationEntry]:
    """The entries up to ``head_id``, oldest first, or the last ``limit`` of them.

    Raises:
        KeyError: one of them is not in the store.
        CorruptRowError: another program has written them.
        LivingAIError: as :meth:`SharedLog.nodes_between`.
    """
    chain: list[ConversationEntry] = []
    wanted = head_id
    seen: set[str] = set()
    while wanted is not None and (limit is None or len(chain) < limit):
        place = await locate(log, wanted)
        if place is None:
            raise KeyError(wanted)
        left = None if limit is None else limit - len(chain)
        found = await _part(log, place, wanted, left)
        if not found:
            raise KeyError(wanted)
        if found[-1].id in seen:
            raise CorruptRowError(f"the entry {wanted} comes before itself")
        seen.add(found[-1].id)
        chain += found
        wanted = found[-1].parent_id
    return chain[::-1]


async def _part(
    log: SharedLog, place: ConversationPlace, wanted: str | None, limit: int | None
) -> list[ConversationEntry]:
    """The part of a chain that lies in one conversation, from ``wanted`` backwards."""
    size = _PAGE if limit is None else min(_PAGE, limit)
    asked = saves_range(place.execution_id, upto=place.save, limit=size, states=True)
    page, newest = await log.node_pages(
        place.execution_id, [asked, saves_range(place.execution_id)]
    )
    floor = read_save(newest.nodes[0].node).floor if newest.nodes else 0
    known: dict[str, ConversationEntry] = {}
    part: list[ConversationEntry] = []
    while True:
        for found in page:
            if save_number(found.node) <= floor:
                return part  # deleted, and perhaps not gone yet
            known |= {entry.id: entry for entry in read_entries(found)}
            while wanted in known:
                part.append(entry := known.pop(wanted))
                wanted = entry.parent_id
                if limit is not None and len(part) == limit:
                    return part
            if wanted is None:
                return part
        if page.rest is None or not part:
            return part
        page = await log.nodes_between(place.execution_id, page.rest)
