"""The OpenAI Agents SDK's sessions."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any, Final

from agents import SQLiteSession
from agents.extensions.memory.sqlalchemy_session import SQLAlchemySession

from bench.frameworks.cases import OURS, Opener, Place, Steps
from bench.frameworks.texts import texts
from livingai.adapters.openai_agents import LivingAISession

_SESSION: Final = "conversation"
#: Items that a turn reads.
_NEWEST: Final = 20


@asynccontextmanager
async def _session(place: Place, side: str) -> Any:
    if side == OURS:
        yield LivingAISession(place.ours, _SESSION)
    elif side == "SQLiteSession":
        session = SQLiteSession(_SESSION, place.data / "sessions.db")
        yield session
        session.close()
    else:
        url = f"sqlite+aiosqlite:///{place.data / 'sessions.db'}"
        other = SQLAlchemySession.from_url(_SESSION, url=url, create_tables=True)
        yield other
        await other.engine.dispose()


def _items(number: int) -> list[Any]:
    """What a turn adds: a question and an answer."""
    made = texts(2000)
    return [
        {"role": role, "content": made[(2 * number + at) % len(made)]}
        for at, role in enumerate(("user", "assistant"))
    ]


def _opener(side: str, *, reads: bool) -> Opener:
    @asynccontextmanager
    async def opened(place: Place) -> Steps:
        texts(2000)
        async with _session(place, side) as session:

            async def step(number: int) -> None:
                if reads:
                    found = await session.get_items(limit=_NEWEST)
                    if len(found) != min(_NEWEST, 2 * number):
                        raise ValueError(f"the session has {len(found)} items")
                await session.add_items(_items(number))

            yield step

    return opened


OPENERS: Final[dict[tuple[str, str], Opener]] = {
    (case, side): _opener(side, reads=case == "turn")
    for case in ("add items", "turn")
    for side in (OURS, "SQLiteSession", "SQLAlchemySession")
}
