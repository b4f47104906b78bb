"""Google ADK's session services."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import texts
from livingai.adapters.google_adk import LivingAISessionService


@asynccontextmanager
async def _service(place: Place, side: str) -> Any:
    path = place.data / "sessions.db"
    if side == OURS:
        yield LivingAISessionService(place.ours)
    elif side == "SqliteSessionService":
        yield SqliteSessionService(str(path))
    else:
        service = DatabaseSessionService(f"sqlite+aiosqlite:///{path}")
        yield service
        await service.close()


def _opener(side: str) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        made = texts(1000)
        async with _service(place, side) as service:
            session = await service.create_session(app_name="app", user_id="user")

            async def step(number: int) -> None:
                event = Event(
                    author="agent",
                    invocation_id=f"invocation-{number}",
                    content=types.Content(
                        role="model", parts=[types.Part(text=made[number % len(made)])]
                    ),
                    actions=EventActions(state_delta={"step": number}),
                )
                await service.append_event(session, event)

            yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    ("append event", side): _opener(side)
    for side in (OURS, "DatabaseSessionService", "SqliteSessionService")
}
