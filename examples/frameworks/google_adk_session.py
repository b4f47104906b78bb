"""An ADK agent is killed (SIGKILL) after it has booked; another process goes on, and books nothing.

    python examples/frameworks/google_adk_session.py

The model is a script in this file, so it needs no key and no network.
"""

import asyncio
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.apps import App, ResumabilityConfig
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.google_adk import LivingAIPlugin, LivingAISessionService

BOOKED = Path("booked.txt")
WHO: dict[str, Any] = {"app_name": "travel", "user_id": "ada"}


class ScriptedModel(BaseLlm):
    """In place of a model: books once, and then says what came of it."""

    model: str = "scripted"

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """A call of the tool, or an answer if there is a result."""
        parts = [part for each in llm_request.contents for part in each.parts or ()]
        answers = [part.function_response for part in parts if part.function_response]
        if answers:
            part = types.Part(text=f"Done: {answers[-1].response}")
        else:
            part = types.Part(function_call=types.FunctionCall(name="book", args={"city": "Oslo"}))
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def book(city: str, tool_context: ToolContext) -> dict[str, str]:
    """Book a journey, which must happen once."""
    with BOOKED.open("a") as file:
        file.write(f"{city}\n")
    print(f"  process {os.getpid()}: {city} is booked", flush=True)
    tool_context.state["user:last_journey"] = city
    return {"booked": city}


class DyingService(LivingAISessionService):
    """Kills its process when the tool's result is about to be stored."""

    async def append_event(self, session: Any, event: Any) -> Any:
        """As the real one, but for that."""
        if event.get_function_responses():
            print("  ... and here it is killed", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().append_event(session, event)


async def live(dies: bool) -> None:
    """One life of the agent: the first turn of a session, or the rest of it."""
    async with CheckpointEngine(SQLiteStore("sessions.db")) as engine:
        service = DyingService(engine) if dies else LivingAISessionService(engine)
        agent = LlmAgent(name="traveller", model=ScriptedModel(), tools=[book])
        app = App(
            name="travel",
            root_agent=agent,
            plugins=[LivingAIPlugin(engine)],
            resumability_config=ResumabilityConfig(is_resumable=True),
        )
        runner = Runner(app=app, session_service=service)
        turn: dict[str, Any] = {"user_id": "ada", "session_id": "s1"}
        session = await service.get_session(**WHO, session_id="s1")
        if session is None:
            await service.create_session(**WHO, session_id="s1")
            text = types.Part(text="Book a journey to Oslo")
            turn["new_message"] = types.Content(role="user", parts=[text])
        else:
            print(f"  process {os.getpid()}: found {len(session.events)} events", flush=True)
            turn["invocation_id"] = session.events[-1].invocation_id
        async for event in runner.run_async(**turn):
            for part in (event.content and event.content.parts) or ():
                if part.text:
                    print(f"  {event.author}: {part.text}", flush=True)
        print(f"  of the user: {await service.get_user_state(**WHO)}", flush=True)
        await runner.close()


def main() -> None:
    """Start the agent twice, as processes of their own."""
    for title, dies in (("first life", "dies"), ("second life", "")):
        print(title, flush=True)
        subprocess.run([sys.executable, __file__, dies], check=False)
    print(f"shown: killed once, and booked {len(BOOKED.read_text().split())} time")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # ADK's, about what is experimental in it
    if len(sys.argv) > 1:
        asyncio.run(live(bool(sys.argv[1])))
    else:
        main()
