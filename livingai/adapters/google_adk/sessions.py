"""ADK's session service on a livingai engine."""

from __future__ import annotations

import asyncio
import copy
import os
from typing import Any, Final

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

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.google_adk import entries, reading
from livingai.adapters.google_adk.appending import EXISTENCE, SessionWriter
from livingai.adapters.google_adk.entries import StateDict
from livingai.adapters.google_adk.scopes import SharedStates, app_execution, user_execution
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.turns import Turns
from livingai.engine.engine import CheckpointEngine
from livingai.outcome import Durability

#: Sessions that are read at once for a list.
_AT_ONCE: Final = 32
_PAGE: Final = 1000


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
        check_engine(engine)
        check_durability(durability)
        self._log = SharedLog(engine)
        self._durability = durability
        self._begin()

    def _begin(self) -> None:
        """Begin as new: at first, and in a forked child, whose parent may hold any lock."""
        self._pid = os.getpid()
        self._turns = Turns()
        self._states = SharedStates(self._log)
        self._writer = SessionWriter(self._log, self._states, self._durability)

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
                await self._writer.create_named(session.id, node, own)
            else:
                await self._writer.create_unnamed(node, own)
        await self._writer.change_scopes(app_name, user_id, of_user, of_app, entries.own_part(node))
        session._storage_update_marker = node.id
        session.state = await self._merged(app_name, user_id, own)
        return session

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events; the state of user and app stays. If there is no such
        session, nothing happens.

        Raises:
            ServiceUnavailableError: the service does not answer.
        """
        self._ready()
        execution_id = entries.session_execution(app_name, user_id, _stripped(session_id))
        async with self._turns.of(execution_id):
            if await reading.find(self._log, execution_id, EXISTENCE) is None:
                return
            # Whoever owns the session hears of that, and so looks, and finds that it is gone.
            await self._log.engine.delete(execution_id)
            self._writer.forget(execution_id)

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
                return await reading.find(self._log, execution_id, EXISTENCE)

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
            await self._writer.append(execution_id, session, event)
            return self._commit_event_to_session(session, event)

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
