"""What other processes do in the tests of ADK."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import warnings
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, Any

from google.adk.agents import LlmAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from pydantic import Field

from livingai import CheckpointEngine
from livingai.adapters.google_adk import LivingAIPlugin, LivingAISessionService
from livingai.adapters.google_adk.entries import session_execution
from tests.support.agent_main import AgentSide

APP, USER = "my_app", "user"
_services: dict[int, LivingAISessionService] = {}
_sessions: dict[str, Session] = {}


def service_of(agent: AgentSide) -> LivingAISessionService:
    """The one of a process, for the life of the process."""
    return _services.setdefault(id(agent), LivingAISessionService(agent.engine))


async def load(service: LivingAISessionService, session_id: str) -> Session:
    session = await service.get_session(app_name=APP, user_id=USER, session_id=session_id)
    assert session is not None
    return session


def create(agent: AgentSide, session_id: str, state: dict[str, Any]) -> str:
    """Create a session; its id, or the name of the error."""

    async def work() -> str:
        try:
            session = await service_of(agent).create_session(
                app_name=APP, user_id=USER, session_id=session_id, state=state
            )
        except Exception as error:
            return type(error).__name__
        return str(session.id)

    return asyncio.run(work())


def append(agent: AgentSide, session_id: str, names: list[str], state: dict[str, Any]) -> None:
    """Load a session and append events, each with the state."""

    async def work() -> None:
        service = service_of(agent)
        session = await load(service, session_id)
        for name in names:
            await service.append_event(session, event(name, state))

    asyncio.run(work())


def append_again_and_again(
    agent: AgentSide, session_id: str, name: str, count: int, go: str
) -> list[int]:
    """Once the file ``go`` is there, append ``count`` events in competition with others: whoever is
    stale loads the session again. How often that was so, and how many events this process was told
    are appended."""

    async def work() -> list[int]:
        service = service_of(agent)
        session = await load(service, session_id)
        stale = done = 0
        await asyncio.to_thread(start_together, go, name)
        while done < count:
            try:
                await service.append_event(session, event(f"{name}{done}", {f"{name}{done}": done}))
                done += 1
            except ValueError as error:
                if type(error).__name__ != "StaleSessionError":
                    raise
                stale += 1
                session = await load(service, session_id)
        return [stale, done]

    return asyncio.run(work())


def start_together(go: str, name: str) -> None:
    """Say that this process is ready, and wait for the file ``go``."""
    Path(f"{go}-{name}").touch()
    while not os.path.exists(go):
        time.sleep(0.001)


def append_and_die(agent: AgentSide, session_id: str, names: list[str], told: str) -> None:
    """Append events, say so in a file after each, and die by SIGKILL."""

    async def work(file: IO[bytes]) -> None:
        service = service_of(agent)
        session = await load(service, session_id)
        for name in names:
            await service.append_event(session, event(name, {name: 1, f"app:{name}": 1}))
            file.write(f"{name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    with open(told, "ab", buffering=0) as file:
        asyncio.run(work(file))


def state_and_events(agent: AgentSide, session_id: str) -> list[Any]:
    """A session's state, and the invocation ids of its events; None if there is none."""

    async def work() -> list[Any]:
        session = await service_of(agent).get_session(
            app_name=APP, user_id=USER, session_id=session_id
        )
        if session is None:
            return [None, None]
        return [session.state, [each.invocation_id for each in session.events]]

    return asyncio.run(work())


def delete(agent: AgentSide, session_id: str) -> None:
    """Delete a session."""
    asyncio.run(service_of(agent).delete_session(app_name=APP, user_id=USER, session_id=session_id))


def event(name: str, state: dict[str, Any]) -> Event:
    """An event that changes the state."""
    return Event(author="user", invocation_id=name, actions=EventActions(state_delta=dict(state)))


# -- an agent --


class ScriptedLlm(BaseLlm):
    """Calls the tools of a script, one a turn, and then says that it is done."""

    model: str = "scripted"
    calls: list[str] = Field(default_factory=list)
    #: Whether each call has the same id, as some models do it.
    same_id: bool = False

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """The next call of the script, by how many answers there are."""
        answers = [
            part.function_response
            for content in llm_request.contents
            for part in content.parts or ()
            if part.function_response
        ]
        if len(answers) < len(self.calls):
            name = self.calls[len(answers)]
            call_id = "call" if self.same_id else f"call-{len(answers)}"
            call = types.FunctionCall(id=call_id, name=name, args={"city": "Oslo"})
            part = types.Part(function_call=call)
        else:
            part = types.Part(text=f"done: {[each.response for each in answers]}")
        yield LlmResponse(
            content=types.Content(role="model", parts=[part]),
            usage_metadata=types.GenerateContentResponseUsageMetadata(total_token_count=7),
        )


def runner(
    engine: CheckpointEngine,
    calls: list[str],
    folder: str,
    die_in: str = "",
    same_id: bool = False,
    **plugin: Any,
) -> Runner:
    """A runner whose tools write into the file ``calls`` of a folder that they were called."""

    def note(name: str) -> None:
        with open(Path(folder) / "calls", "a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        if name == die_in:
            os.kill(os.getpid(), signal.SIGKILL)

    def weather(city: str) -> dict[str, str]:
        """The weather of a city."""
        note("weather")
        return {"weather": f"sun in {city}"}

    def book(city: str, tool_context: ToolContext) -> str:
        """Book a journey to a city."""
        note("book")
        tool_context.state["user:journeys"] = [city]
        tool_context.state["user:journeys"].append("home")
        return f"booked {city}"

    def fail(city: str) -> str:
        """Fail."""
        note("fail")
        raise OSError(f"no way to {city}")

    agent = LlmAgent(
        name="traveller",
        model=ScriptedLlm(calls=calls, same_id=same_id),
        tools=[weather, book, fail],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that is experimental
        resumable = ResumabilityConfig(is_resumable=True)
    app = App(
        name=APP, root_agent=agent, plugins=[LivingAIPlugin(engine, **plugin)],
        resumability_config=resumable,
    )  # fmt: skip
    return Runner(app=app, session_service=LivingAISessionService(engine))


async def talk(runner: Runner, session_id: str, invocation_id: str | None = None) -> list[Event]:
    """One turn, begun with a message, or resumed."""
    message = None
    if invocation_id is None:
        message = types.Content(role="user", parts=[types.Part(text="plan my journey")])
    return [
        each
        async for each in runner.run_async(
            user_id=USER, session_id=session_id, new_message=message, invocation_id=invocation_id
        )
    ]


def take_a_turn(
    agent: AgentSide, session_id: str, calls: list[str], folder: str, die_in: str
) -> None:
    """A turn of the agent in a session, which may kill this process."""

    async def work() -> None:
        await talk(runner(agent.engine, calls, folder, die_in), session_id)

    asyncio.run(work())


def append_with_what_it_has(agent: AgentSide, session_id: str, name: str) -> str:
    """Append to the session object that this process has loaded at the first call; the error's
    name, or nothing."""

    async def work() -> str:
        service = service_of(agent)
        if session_id not in _sessions:
            _sessions[session_id] = await load(service, session_id)
        try:
            await service.append_event(_sessions[session_id], event(name, {}))
        except ValueError as error:
            return type(error).__name__
        return ""

    return asyncio.run(work())


def append_in_a_fork(agent: AgentSide, session_id: str) -> int:
    """Append an event, and another one in a child that is forked while it is this session's turn;
    the child's exit status."""

    def child() -> None:
        signal.alarm(60)
        status = 1
        try:
            thread = threading.Thread(target=append, args=(agent, session_id, ["child"], {}))
            thread.start()
            thread.join()
            status = 0
        finally:
            os._exit(status)

    async def work() -> int:
        service = service_of(agent)
        async with service._turns.of(session_execution(APP, USER, session_id)):
            pid = os.fork()
            if pid == 0:
                child()
            return pid

    append(agent, session_id, ["before"], {})
    return os.waitstatus_to_exitcode(os.waitpid(asyncio.run(work()), 0)[1])
