"""A crew of two tasks, and what other processes do with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.state.checkpoint_config import CheckpointConfig

from livingai.adapters.crewai import LivingAICheckpointProvider
from tests.support.agent_main import AgentSide
from tests.support.waiting import until

#: Of each checkpoint.
PLACE = "trip 1/ä"


class Told(BaseLLM):
    """Answers with the task's number, and notes each call in a file; is killed in a task."""

    told: str = ""
    die_in: str = ""

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        task = "second" if "the second task" in str(messages) else "first"
        with Path(self.told).open("a") as file:
            file.write(f"{task}\n")
        if self.die_in == task:
            wait_and_die()
        return f"Thought: I now know\nFinal Answer: answer of the {task} one"

    def supports_function_calling(self) -> bool:
        return False


def wait_and_die() -> None:
    """Set by :func:`run`: CrewAI writes checkpoints in a thread of its own, so wait for that of
    the first task, and then SIGKILL."""


def crew_of(llm: BaseLLM, **settings: Any) -> Crew:
    """The crew."""
    agent = Agent(role="worker", goal="work", backstory="works", llm=llm)
    tasks = [
        Task(description=f"do the {name} task", expected_output="an answer", agent=agent)
        for name in ("first", "second")
    ]
    return Crew(agents=[agent], tasks=tasks, **settings)


def run(side: AgentSide, told: str, die_in: str = "") -> str:
    """Run the crew, perhaps to be killed."""
    provider = LivingAICheckpointProvider(side.engine)

    def dying() -> None:
        until(lambda: provider.newest(PLACE), what="a checkpoint", timeout=60)
        os.kill(os.getpid(), signal.SIGKILL)

    globals()["wait_and_die"] = dying
    config = CheckpointConfig(location=PLACE, provider=provider)
    return str(crew_of(Told(model="told", told=told, die_in=die_in), checkpoint=config).kickoff())


def resume(side: AgentSide, told: str) -> str:
    """Go on with the newest checkpoint. A model of the program's own is none that CrewAI can make
    again, so it is given again."""
    provider = LivingAICheckpointProvider(side.engine)
    with provider.restoring(PLACE) as config:
        crew = Crew.from_checkpoint(config)
    crew.checkpoint = config.model_copy(update={"restore_from": None})
    for agent in crew.agents:
        agent.llm = Told(model="told", told=told)
    return str(crew.kickoff())
