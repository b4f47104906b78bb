"""Flows, and what other processes do with them; CrewAI is imported by these processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from crewai.flow import Flow, human_feedback, listen, start
from crewai.flow.async_feedback.types import HumanFeedbackPending, PendingFeedbackContext

from livingai import CheckpointEngine
from livingai.adapters.crewai import LivingAIFlowPersistence
from livingai.errors import FencedError
from tests.support.agent_main import AgentSide

STEPS = ("one", "two", "three")


def steps_flow(engine: CheckpointEngine, die_in: str = "") -> Flow[Any]:
    """A flow of three methods, each of which is saved; it is killed in the method ``die_in``."""
    from crewai.flow import persist

    persistence = LivingAIFlowPersistence(engine)

    @persist(persistence)
    class Steps(Flow):
        def work(self, name: str) -> None:
            done = self.state.setdefault("done", [])
            if name in done:
                return  # restored
            if name == die_in:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(name)

        @start()
        def one(self) -> None:
            self.work("one")

        @listen(one)
        def two(self) -> None:
            self.work("two")

        @listen(two)
        def three(self) -> None:
            self.work("three")

    return Steps(suppress_flow_events=True)


def run_steps(agent: AgentSide, flow_id: str, die_in: str = "") -> dict[str, Any]:
    flow = steps_flow(agent.engine, die_in)
    flow.kickoff(inputs={"id": flow_id})
    return dict(flow.state)


class Waits:
    """A provider of feedback that pauses the flow."""

    def request_feedback(self, context: PendingFeedbackContext, flow: Any) -> str:
        raise HumanFeedbackPending(context=context)


def review_flow(persistence: LivingAIFlowPersistence, marks: Path) -> type[Flow[Any]]:
    """A flow that waits for feedback, and then notes in ``marks`` that it went on."""

    class Review(Flow):
        @start()
        @human_feedback(message="good?", provider=Waits())
        def draft(self) -> dict[str, Any]:
            self.state["draft"] = "text"
            return {"draft": "text"}

        @listen(draft)
        def publish(self, result: Any) -> str:
            (marks / f"{os.getpid()}-{result.feedback}").touch()
            self.state["published"] = result.feedback
            return "published"

    return Review


def pause(agent: AgentSide, flow_id: str, marks: str) -> str:
    persistence = LivingAIFlowPersistence(agent.engine)
    flow = review_flow(persistence, Path(marks))(persistence=persistence)
    result = flow.kickoff(inputs={"id": flow_id})
    return type(result).__name__


def load_review(agent: AgentSide, flow_id: str, marks: str) -> dict[str, Any]:
    """Load the paused flow, to be resumed by :func:`resume`."""
    persistence = LivingAIFlowPersistence(agent.engine)
    flow = review_flow(persistence, Path(marks)).from_pending(flow_id, persistence)
    agent.runner = flow
    return dict(flow.state)


def resume(agent: AgentSide, feedback: str) -> str:
    try:
        return str(agent.runner.resume(feedback))
    except FencedError:
        return "fenced"
    except RuntimeError as error:
        if isinstance(error.__cause__, FencedError):
            return "fenced"
        raise


def save_many(agent: AgentSide, flow_id: str, name: str, count: int) -> None:
    persistence = LivingAIFlowPersistence(agent.engine)
    for number in range(count):
        persistence.save_state(flow_id, name, {"by": name, "number": number})


def load(agent: AgentSide, flow_id: str) -> dict[str, Any] | None:
    return LivingAIFlowPersistence(agent.engine).load_state(flow_id)


def save_and_die(agent: AgentSide, flow_id: str, number: int) -> None:
    LivingAIFlowPersistence(agent.engine).save_state(flow_id, "m", {"number": number})
    os.kill(os.getpid(), signal.SIGKILL)
