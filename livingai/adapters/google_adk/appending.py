"""Appending to sessions: the first entry, events, and what they change in shared state.

Whoever appends owns the session's execution and knows its end, so that an event which its writer
did not know of is seen before anything is written (:mod:`livingai.adapters.owned_log`).
"""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass
from typing import Final

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session

from livingai.adapters.google_adk import entries, reading
from livingai.adapters.google_adk.entries import EntryPlace, StateDict
from livingai.adapters.google_adk.scopes import SharedStates, app_execution, user_execution
from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.shared_log import SharedLog
from livingai.node import ExecutionNode
from livingai.outcome import Durability
from livingai.runs.ports import OwnedClaim

#: Of so many sessions this process remembers the end, so that an append asks nobody.
_REMEMBERED: Final = 4096
#: Asks for a session without any event.
EXISTENCE: Final = GetSessionConfig(num_recent_events=0)


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The end of a session, true for as long as this process holds the claim."""

    claim: OwnedClaim
    place: EntryPlace
    state: StateDict


class SessionWriter:
    """Appends to the sessions of an engine. Thread-safe, but one task at a time may append to one
    session."""

    def __init__(self, log: SharedLog, states: SharedStates, durability: Durability | None) -> None:
        self._log = log
        self._owned = OwnedLog(log)
        self._states = states
        self._durability = durability
        self._lock = threading.Lock()
        self._ends: collections.OrderedDict[str, SessionEnd] = collections.OrderedDict()

    # -- creating --

    async def create_unnamed(self, node: ExecutionNode, state: StateDict) -> None:
        """Create a session whose id nobody else can know."""
        await self._append_first(self._owned.begin(node.execution_id), node, state)

    async def create_named(self, session_id: str, node: ExecutionNode, state: StateDict) -> None:
        """Create a session whose id others may use, too: one of them succeeds.

        Raises:
            AlreadyExistsError: there is one.
        """
        execution_id = node.execution_id
        tried = False
        while True:
            claim: OwnedClaim | None = None
            found = await reading.find(self._log, execution_id, EXISTENCE)
            if found is None:
                claim = await self._owned.take_over(execution_id)
                found = await reading.find(self._log, execution_id, EXISTENCE)
            if found is not None or claim is None:
                if tried and found is not None and found.first.id == node.id:
                    return
                raise AlreadyExistsError(f"Session with id {session_id} already exists.")
            tried = True
            if await self._append_first(claim, node, state):
                return

    async def _append_first(self, claim: OwnedClaim, node: ExecutionNode, state: StateDict) -> bool:
        if not await self._owned.append_under(claim, node, state, durability=self._durability):
            return False
        first = entries.Entry0(node.id, "", "", "", state, node.created_at)
        self._remember(node.execution_id, SessionEnd(claim, entries.place_of_first(first), state))
        return True

    def forget(self, execution_id: str) -> None:
        """A session was deleted, or nobody knows its end."""
        with self._lock:
            self._ends.pop(execution_id, None)

    # -- appending --

    async def append(self, execution_id: str, session: Session, event: Event) -> None:
        """Append an event.

        Raises:
            StaleSessionError, SessionNotFoundError: see the service's ``append_event``.
        """
        own, of_user, of_app = entries.split_state(event.actions.state_delta)
        text = entries.event_text(event)
        node: ExecutionNode | None = None
        end = self._end(execution_id)
        while True:
            if end is None:
                end = await self._take_over(execution_id, session)
                if node is not None and await self._stored(node):
                    break
            if _is_stale(session, event, end.place):
                if await self._is_repeated(execution_id, end.place, event, text):
                    session._storage_update_marker = end.place.head
                    session.last_update_time = end.place.updated
                    return
                raise _stale()
            state = {**end.state, **own} if own else end.state
            node = entries.event_entry(
                execution_id, text, event, end.place, bool(own), bool(of_user or of_app)
            )
            self.forget(execution_id)  # after an error, or a cancelled wait, nobody knows the end
            if await self._owned.append_under(
                end.claim, node, state if own else None, durability=self._durability
            ):
                end = SessionEnd(end.claim, entries.read_place(node), state)
                self._remember(execution_id, end)
                break
            end = None
        await self.change_scopes(
            session.app_name, session.user_id, of_user, of_app, entries.own_part(node)
        )
        if not entries.is_summary(event):
            session._storage_update_marker = node.id
        session.last_update_time = event.timestamp

    async def _take_over(self, execution_id: str, session: Session) -> SessionEnd:
        """Become the session's owner, and read its end."""
        missing = SessionNotFoundError(f"Session {session.id} not found.")
        if await reading.find(self._log, execution_id, EXISTENCE) is None:
            raise missing  # and leave no trace
        claim = await self._owned.take_over(execution_id)
        found = await reading.find(self._log, execution_id, EXISTENCE)
        if found is None:
            raise missing
        if found.place.scopes:
            await self._change_again(execution_id, session, found.place)
        end = SessionEnd(claim, found.place, found.state)
        self._remember(execution_id, end)
        return end

    async def _change_again(self, execution_id: str, session: Session, place: EntryPlace) -> None:
        """Append the newest event's changes of shared state again, which changes nothing if they
        are there: the process that appended the event may have died before it came to them."""
        page = await self._log.nodes_between(execution_id, entries.node_range(place.id))
        for entry in page:
            delta = entries.read_event(entry.node).actions.state_delta
            _, of_user, of_app = entries.split_state(delta)
            await self.change_scopes(
                session.app_name, session.user_id, of_user, of_app, entries.own_part(entry.node)
            )

    def _end(self, execution_id: str) -> SessionEnd | None:
        """The session's end, if this process is still its owner."""
        with self._lock:
            end = self._ends.get(execution_id)
        if end is not None and not self._owned.holds(execution_id, end.claim):
            return None
        return end

    def _remember(self, execution_id: str, end: SessionEnd) -> None:
        with self._lock:
            self._ends[execution_id] = end
            self._ends.move_to_end(execution_id)
            if len(self._ends) > _REMEMBERED:
                self._ends.popitem(last=False)

    async def _stored(self, node: ExecutionNode) -> bool:
        page = await self._log.nodes_between(node.execution_id, entries.node_range(node.id))
        return bool(page.nodes)

    async def _is_repeated(
        self, execution_id: str, place: EntryPlace, event: Event, text: str
    ) -> bool:
        """Whether the session's newest event is this very one: a caller that was not told how its
        append ended tries again."""
        if place.head_event != event.id:
            return False
        page = await self._log.nodes_between(execution_id, entries.node_range(place.head))
        return bool(page.nodes) and page.nodes[0].node.output == text

    async def change_scopes(
        self, app_name: str, user_id: str, of_user: StateDict, of_app: StateDict, name: str
    ) -> None:
        """Change what sessions share; ``name`` says which change it is, so that it counts once."""
        if of_app:
            execution_id = app_execution(app_name)
            await self._states.change(execution_id, of_app, name, self._durability)
        if of_user:
            execution_id = user_execution(app_name, user_id)
            await self._states.change(execution_id, of_user, name, self._durability)


def _is_stale(session: Session, event: Event, place: EntryPlace) -> bool:
    """Whether there are events that a session object does not know.

    Times say nothing about that: clocks differ, and events bear any time. A session that came from
    here bears the id of the last event that it knows; one that was made by hand is compared by its
    last event.
    """
    if entries.is_summary(event):
        return False
    marker = session._storage_update_marker
    if marker is not None:
        return bool(marker != place.head)
    known = [each.id for each in session.events if not entries.is_summary(each)]
    return place.head_event != (known[-1] if known else "")


def _stale() -> StaleSessionError:
    return StaleSessionError(
        "The session has been modified in storage since it was loaded: another session object, "
        "perhaps of another process, has appended events that this one does not have. Load it "
        "again with get_session() before appending more events."
    )
