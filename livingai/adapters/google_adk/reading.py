"""Reading sessions: their newest entry, their events, their state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.adk.sessions.base_session_service import GetSessionConfig

from livingai.adapters.google_adk.entries import (
    Entry0,
    EntryPlace,
    StateDict,
    first_range,
    newest_range,
    node_range,
    place_of_first,
    read_first,
    read_place,
    read_state,
)
from livingai.adapters.shared_log import SharedLog
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode
from livingai.protocol.ranges import NodePage

_PAGE: Final = 1000
#: Entries of a page where only those after a time are wanted: there may be few.
_RECENT_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session at one moment: entry 0, the newest entry, the session's own state, and the events
    that were asked for, oldest first, as nodes."""

    first: Entry0
    place: EntryPlace
    state: StateDict
    events: list[ExecutionNode]


async def find(
    log: SharedLog, execution_id: str, config: GetSessionConfig | None
) -> FoundSession | None:
    """A session with the events that ``config`` asks for; None: there is no such session.

    Reads from the end, and no further than it has to.

    Raises:
        CorruptRowError: another program has written into the execution.
        LivingAIError: as :meth:`SharedLog.nodes_between`.
    """
    limit = None if config is None else config.num_recent_events
    since = None if config is None else config.after_timestamp
    page_size = _PAGE if since is None else _RECENT_PAGE
    if limit is not None:
        page_size = min(page_size, limit or 1)
    start, page = await log.pages(
        execution_id, [first_range(execution_id), newest_range(execution_id, page_size)]
    )
    first = read_first(start)
    if first is None:
        return None
    newest, events = await _collect(log, execution_id, first, page, limit, since)
    return FoundSession(first, newest, await state_at(log, execution_id, first, newest), events)


async def _collect(
    log: SharedLog,
    execution_id: str,
    first: Entry0,
    page: NodePage,
    limit: int | None,
    since: float | None,
) -> tuple[EntryPlace, list[ExecutionNode]]:
    """The session's newest place, and its newest events: at most ``limit`` from ``since`` on."""
    newest: EntryPlace | None = None
    events: list[ExecutionNode] = []
    while True:
        for entry in page:
            if entry.node.id == first.id:
                return newest or place_of_first(first), events[::-1]
            if entry.node.metadata.get("kind") == "session":
                continue  # created on another machine at the same moment, and later
            place = read_place(entry.node)
            if place.born != first.id:
                continue  # of a session of that name that was deleted
            newest = newest or place
            done = limit is not None and len(events) >= limit
            if done or (since is not None and place.highest < since):
                return newest, events[::-1]
            if since is None or place.updated >= since:
                events.append(entry.node)
        if limit is not None and newest is not None and len(events) >= limit:
            return newest, events[::-1]
        if page.rest is None:
            return newest or place_of_first(first), events[::-1]
        (page,) = await log.pages(execution_id, [page.rest])


async def state_at(
    log: SharedLog, execution_id: str, first: Entry0, place: EntryPlace
) -> StateDict:
    """The session's own state at a place."""
    if place.state_at == first.id:
        return first.state
    (page,) = await log.pages(execution_id, [node_range(place.state_at)])
    if not page.nodes:
        raise CorruptRowError(
            f"{execution_id} has lost {place.state_at}, which has the session's state; was it "
            "removed by a retention policy? Exclude sessions from those"
        )
    return read_state(page.nodes[0])
