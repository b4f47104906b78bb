"""ADK's session service on a livingai engine."""

from __future__ import annotations

import asyncio
import collections
import copy
import os
import threading
from dataclasses import dataclass
from typing import Any, Final

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.platform import time as adk_time
from google.adk.platform import uuid as adk_uuid
from google.adk.sessions.base_session_service import (
    BaseSessionService,
    GetSessionConfig,
    ListSessionsResponse,
)
from google.adk.sessions.session import Session
from google.adk.sessions.state import State

from livingai.adapters.google_adk import entries, reading
from livingai.adapters.google_adk.entries import EntryPlace, StateDict
from livingai.adapters.google_adk.scopes import SharedStates, app_execution, user_execution
from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.turns import Turns
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError
from livingai.node import ExecutionNode
from livingai.outcome import Durability
from livingai.runs.ports import OwnedClaim

#: Of so many sessions this process remembers the end, so that an append asks nobody.
_REMEMBERED: Final = 4096
#: Sessions that are read at once for a list.
_AT_ONCE: Final = 32
_PAGE: Final = 1000
_EXISTENCE: Final = GetSessionConfig(num_recent_events=0)


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a session, true for as long as this process holds the claim."""

    claim: OwnedClaim
    place: EntryPlace
    state: StateDict


class LivingAISessionService(BaseSessionService):
    """Sessions in an engine's store, shared by all processes that use it.

    An event is durable when ``append_event`` returns: it survives the death of every process, at
    ``durability`` (by default the engine's). :meth:`flush`, which ``Runner.close()`` calls, waits
    until the store has everything. The engine stays the caller's to close. May be used from several
    event loops and threads.

    Raises:
        ConfigurationError: ``engine`` is no engine, or ``durability`` no level.
    """

    def __init__(self, engine: CheckpointEngine, *, durability: Durability | None = None) -> None:
        if not isinstance(engine, CheckpointEngine):
            raise ConfigurationError(f"engine must be a CheckpointEngine, not {shown(engine)}")
        if durability is not None and not isinstance(durability, Durability):
            raise ConfigurationError(
                f"durability must be a livingai.Durability or None, not {shown(durability)}"
            )
        self._log = SharedLog(engine)
        self._owned = OwnedLog(self._log)
        self._durability = durability
        self._begin()

    def _begin(self) -> None:
        """Begin as new: at first, and in a forked child, whose parent may hold any lock."""
        self._pid = os.getpid()
        self._turns = Turns()
        self._states = SharedStates(self._log)
        self._lock = threading.Lock()
        self._ends: collections.OrderedDict[str, _End] = collections.OrderedDict()

    # -- creating and deleting --

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """A new session; spaces around ``session_id`` do not count, and an empty one is made up.

        Raises:
            AlreadyExistsError: there is one of that id.
            LivingAIError: as :meth:`CheckpointEngine.save`, and as its reads.
        """
        self._ready()
        given = (session_id or "").strip()
        session = Session(app_name=app_name, user_id=user_id, id=given or adk_uuid.new_uuid())
        session.last_update_time = adk_time.get_time()
        own, of_user, of_app = entries.split_state(state)
        execution_id = entries.session_execution(app_name, user_id, session.id)
        node = entries.first_entry(execution_id, session, session.last_update_time)
        async with self._turns.of(execution_id):
            if given:
                await self._create_named(execution_id, session.id, node, own)
            else:  # nobody else can know the id
                await self._append_first(self._owned.begin(execution_id), node, own)
        await self._change_scopes(app_name, user_id, of_user, of_app, entries.own_part(node))
        session._storage_update_marker = node.id
        session.state = await self._merged(app_name, user_id, own)
        return session

    async def _create_named(
        self, execution_id: str, session_id: str, node: ExecutionNode, state: StateDict
    ) -> None:
        """Create a session whose id others may use, too: one of them succeeds."""
        tried = False
        while True:
            claim: OwnedClaim | None = None
            found = await reading.find(self._log, execution_id, _EXISTENCE)
            if found is None:
                claim = await self._owned.take_over(execution_id)
                found = await reading.find(self._log, execution_id, _EXISTENCE)
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
        self._remember(node.execution_id, _End(claim, entries.place_of_first(first), state))
        return True

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events; the state of user and app stays. If there is no such
        session, nothing happens.

        Raises:
            ServiceUnavailableError: the service does not answer.
        """
        self._ready()
        execution_id = entries.session_execution(app_name, user_id, _stripped(session_id))
        async with self._turns.of(execution_id):
            if await reading.find(self._log, execution_id, _EXISTENCE) is None:
                return
            # Whoever owns the session hears of that, and so looks, and finds that it is gone.
            await self._log.engine.delete(execution_id)
            with self._lock:
                self._ends.pop(execution_id, None)

    # -- reading --

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """A session as it is now, with what any process has appended; None: there is none.

        Reads no more events than ``config`` asks for.

        Raises:
            CorruptRowError: another program has written into the session's execution.
            LivingAIError: what became known of earlier appends, and as the engine's reads.
        """
        self._ready()
        session_id = _stripped(session_id)
        execution_id = entries.session_execution(app_name, user_id, session_id)
        self._log.check(execution_id)
        found, shared = await asyncio.gather(
            reading.find(self._log, execution_id, config), self._shared(app_name, user_id)
        )
        if found is None:
            return None
        session = _session(found, shared)
        session.events = [entries.read_event(node) for node in found.events]
        return session

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """The sessions of an app, or of one of its users, oldest update first, without events.

        Raises:
            CorruptRowError, LivingAIError: as :meth:`get_session`.
        """
        self._ready()
        found = await self._find_all(app_name, user_id)
        users = {each.first.user_id for each in found}
        shared = dict(zip(
            users, await asyncio.gather(*(self._shared(app_name, each) for each in users)),
            strict=True,
        ))  # fmt: skip
        sessions = [_session(each, shared[each.first.user_id]) for each in found]
        sessions.sort(key=lambda each: (each.last_update_time, each.user_id, each.id))
        return ListSessionsResponse(sessions=sessions)

    async def _find_all(self, app_name: str, user_id: str | None) -> list[reading.FoundSession]:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def find(execution_id: str) -> reading.FoundSession | None:
            async with at_once:
                return await reading.find(self._log, execution_id, _EXISTENCE)

        found: list[reading.FoundSession] = []
        prefix, after = entries.sessions_prefix(app_name, user_id), None
        while True:
            page = await self._log.engine.executions(prefix=prefix, after=after, limit=_PAGE)
            answers = await asyncio.gather(*(find(each.execution_id) for each in page))
            found += [each for each in answers if each is not None]
            after = page.next_after
            if after is None:
                return found

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """What all sessions of a user share, with keys that have no ``user:`` before them.

        Raises:
            CorruptRowError, LivingAIError: as :meth:`get_session`.
        """
        self._ready()
        return await self._states.read(user_execution(app_name, user_id))

    async def _shared(self, app_name: str, user_id: str) -> StateDict:
        """The state of app and user, with prefixes."""
        of_app, of_user = await asyncio.gather(
            self._states.read(app_execution(app_name)),
            self._states.read(user_execution(app_name, user_id)),
        )
        return {
            **{State.APP_PREFIX + key: value for key, value in of_app.items()},
            **{State.USER_PREFIX + key: value for key, value in of_user.items()},
        }

    async def _merged(self, app_name: str, user_id: str, own: StateDict) -> StateDict:
        return {**copy.deepcopy(own), **await self._shared(app_name, user_id)}

    # -- appending --

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to a session, in the store and in ``session``.

        An event that is partial is ignored, and so is one that the session has already.

        Raises:
            StaleSessionError: the session has been modified in storage since it was loaded: it has
                events that ``session`` does not know. (An event that sums up others is in nobody's
                way, and nobody's event in its.)
            SessionNotFoundError: there is no such session (any more).
            LivingAIError: what became known of earlier appends, and as
                :meth:`CheckpointEngine.save`; the event was not appended.
        """
        if event.partial:
            return event
        self._ready()
        execution_id = entries.session_execution(session.app_name, session.user_id, session.id)
        async with self._turns.of(execution_id):
            if any(each.id == event.id and each == event for each in reversed(session.events)):
                return event
            self._apply_temp_state(session, event)
            event = self._trim_temp_delta_state(event)
            await self._append(execution_id, session, event)
            return self._commit_event_to_session(session, event)

    async def _append(self, execution_id: str, session: Session, event: Event) -> None:
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
            if await self._owned.append_under(
                end.claim, node, state if own else None, durability=self._durability
            ):
                end = _End(end.claim, entries.read_place(node), state)
                self._remember(execution_id, end)
                break
            end = None
        await self._change_scopes(
            session.app_name, session.user_id, of_user, of_app, entries.own_part(node)
        )
        if not entries.is_summary(event):
            session._storage_update_marker = node.id
        session.last_update_time = event.timestamp

    async def _take_over(self, execution_id: str, session: Session) -> _End:
        """Become the session's owner, and read its end."""
        missing = SessionNotFoundError(f"Session {session.id} not found.")
        if await reading.find(self._log, execution_id, _EXISTENCE) is None:
            raise missing  # and leave no trace
        claim = await self._owned.take_over(execution_id)
        found = await reading.find(self._log, execution_id, _EXISTENCE)
        if found is None:
            raise missing
        if found.place.scopes:
            await self._change_again(execution_id, session, found.place)
        end = _End(claim, found.place, found.state)
        self._remember(execution_id, end)
        return end

    async def _change_again(self, execution_id: str, session: Session, place: EntryPlace) -> None:
        """Append the newest event's changes of shared state again, which changes nothing if they
        are there: the process that appended the event may have died before it came to them."""
        page = await self._log.nodes_between(execution_id, entries.node_range(place.id))
        for entry in page:
            delta = entries.read_event(entry.node).actions.state_delta
            _, of_user, of_app = entries.split_state(delta)
            await self._change_scopes(
                session.app_name, session.user_id, of_user, of_app, entries.own_part(entry.node)
            )

    def _end(self, execution_id: str) -> _End | None:
        """The session's end, if this process is still its owner."""
        with self._lock:
            end = self._ends.get(execution_id)
        if end is not None and not self._owned.holds(execution_id, end.claim):
            return None
        return end

    def _remember(self, execution_id: str, end: _End) -> None:
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

    async def _change_scopes(
        self, app_name: str, user_id: str, of_user: StateDict, of_app: StateDict, name: str
    ) -> None:
        if of_app:
            execution_id = app_execution(app_name)
            await self._states.change(execution_id, of_app, name, self._durability)
        if of_user:
            execution_id = user_execution(app_name, user_id)
            await self._states.change(execution_id, of_user, name, self._durability)

    async def flush(self) -> None:
        """Wait until the store has all that this process has appended.

        Raises:
            RecordRefusedError: the store has refused an entry for good; it is kept aside.
        """
        self._ready()
        await self._log.flush()

    def _ready(self) -> None:
        if self._pid != os.getpid():
            self._begin()


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


def _session(found: reading.FoundSession, shared: StateDict) -> Session:
    first, place = found.first, found.place
    session = Session(
        app_name=first.app_name, user_id=first.user_id, id=first.session_id,
        state={**copy.deepcopy(found.state), **copy.deepcopy(shared)},
        last_update_time=place.updated,
    )  # fmt: skip
    session._storage_update_marker = place.head
    return session


def _stripped(session_id: str) -> str:
    return session_id.strip() if session_id else session_id
