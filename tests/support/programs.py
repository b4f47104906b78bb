"""Recorded programs for agent processes, and the world outside of them: a file of effects.

Each function runs in an agent process (see ``agent_main``). A program has three tools, a step
before each, and a checkpoint behind each. Effects are lines of a file, appended in one write each,
so they outlive any process and are in the order in which they happened.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from livingai import ExecutionNode, Resolution, SyncRun, failpoint
from livingai.errors import LivingAIError
from livingai.runs.policy import RunKeywords
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.waiting import joined, until

TOOLS = 3
#: Where the process kills itself: around each tool call, and inside of a step.
MOMENTS = [
    f"{where} {number}"
    for number in range(TOOLS)
    for where in ("in step", "before tool", "tool before effect", "tool after effect",
                  "behind tool", "behind checkpoint")
]  # fmt: skip
FINAL = {"tickets": [f"ticket {number}" for number in range(TOOLS)]}


def effects(file: Path | str) -> Counter[str]:
    """What happened outside, and how often."""
    path = Path(file)
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def _happen(file: str, what: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{what}\n".encode())
    os.close(fd)


def look_up(file: str, node: ExecutionNode) -> Resolution:
    """The resolver: asks the world whether the tool of ``node`` had its effect."""
    number = node.input["args"][0]
    if effects(file)[f"tool {number}"]:
        return Resolution.done(f"ticket {number}")
    return Resolution.retry()


def _settings(file: str, resolve: bool, exclusive: bool) -> RunKeywords:
    if not resolve:
        return {"exclusive": exclusive}
    return {"exclusive": exclusive, "resolver": lambda node: look_up(file, node)}


class _Program:
    def __init__(self, file: str, die_at: str) -> None:
        self.file = file
        self.die_at = die_at

    def moment(self, name: str) -> None:
        if name == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def think(self, number: int) -> str:
        _happen(self.file, f"step {number}")
        self.moment(f"in step {number}")
        return f"thought {number}"

    def charge(self, number: int) -> str:
        self.moment(f"tool before effect {number}")
        _happen(self.file, f"tool {number}")
        self.moment(f"tool after effect {number}")
        return f"ticket {number}"


def perform(
    agent: AgentSide, run_id: str, file: str, die_at: str = "", resolve: bool = False,
    exclusive: bool = False,
) -> Any:  # fmt: skip
    """The program, killed at a moment; its final state."""
    program = _Program(file, die_at)
    with agent.engine.run_sync(run_id, **_settings(file, resolve, exclusive)) as run:
        tickets = []
        for number in range(TOOLS):
            run.step("think", program.think, number)
            program.moment(f"before tool {number}")
            tickets.append(run.tool("charge", program.charge, number))
            program.moment(f"behind tool {number}")
            run.state = {"tickets": list(tickets)}
            run.checkpoint()
            program.moment(f"behind checkpoint {number}")
        return run.state


def perform_async(
    agent: AgentSide, run_id: str, file: str, die_at: str = "", resolve: bool = False,
    exclusive: bool = False,
) -> Any:  # fmt: skip
    """As :func:`perform`, the tools at the same time, each in a task of its own."""
    program = _Program(file, die_at)

    async def part(run: Any, number: int) -> Any:
        await run.step("think", program.think, number)
        await asyncio.sleep(0)
        program.moment(f"before tool {number}")
        ticket = await run.tool("charge", program.charge, number)
        program.moment(f"behind tool {number}")
        return ticket

    async def main() -> Any:
        settings = _settings(file, resolve, exclusive)
        async with agent.engine.run(run_id, **settings) as run:
            tickets = await asyncio.gather(*(part(run, number) for number in range(TOOLS)))
            run.state = {"tickets": tickets}
            await run.checkpoint()
            program.moment(f"behind checkpoint {TOOLS - 1}")
            return run.state

    return asyncio.run(main())


# -- a run that goes on in the background --------------------------------------------------------


def fork_in_run(agent: AgentSide, run_id: str, file: str) -> list[str]:
    """Fork inside of a run; parent and child both make the next call. What became of the child's,
    and of the child's end of the run."""
    reader, writer = os.pipe()
    with agent.engine.run_sync(run_id) as run:
        run.step("think", int, 0)
        pid = os.fork()
        if pid == 0:
            try:
                run.tool("charge", _happen, file, "tool")
            except LivingAIError as error:
                os.write(writer, type(error).__name__.encode())
            run.__exit__(None, None, None)
            os._exit(0)
        os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        run.tool("charge", _happen, file, "tool")
        statuses = [str(node.status) for node in agent.engine.nodes_sync(run_id)]
    with os.fdopen(reader) as told:
        return [told.read(), *statuses]


class _Background(threading.Thread):
    """Tool after tool until it is asked to halt, or until something ends the run."""

    def __init__(self, agent: AgentSide, run_id: str, file: str, exclusive: bool) -> None:
        super().__init__(daemon=True)
        self.agent, self.run_id, self.file, self.exclusive = agent, run_id, file, exclusive
        self.halt = threading.Event()
        self.numbers = 0
        self.error: BaseException | None = None

    def charge(self, number: int) -> int:
        _happen(self.file, f"tool {number}")
        return number

    def run(self) -> None:
        try:
            with self.agent.engine.run_sync(
                self.run_id,
                resolver=lambda _: Resolution.done("decided"),
                exclusive=self.exclusive,
            ) as run:
                self.work(run)
        except BaseException as error:
            self.error = error
        with self.agent.changed:
            self.agent.changed.notify_all()

    def work(self, run: SyncRun) -> None:
        while not self.halt.is_set():
            run.tool("charge", self.charge, self.numbers)
            with self.agent.changed:
                self.numbers += 1
                self.agent.changed.notify_all()


def begin(agent: AgentSide, run_id: str, file: str, exclusive: bool = False) -> None:
    """Enter a run and go on in the background."""
    agent.runner = _Background(agent, run_id, file, exclusive)
    agent.runner.start()


def pause_entering(agent: AgentSide, run_id: str, file: str) -> None:
    """Enter a run in the background; stay between writing its first record and publishing it."""
    agent.engine.open_handle().open_journal()
    failpoint.arm("journal.after_append=pause:60*1")
    begin(agent, run_id, file)
    until(lambda: failpoint.hits("journal.after_append"), what="the first record written")


def begin_slowly(agent: AgentSide, run_id: str, file: str, place: str, pause_s: float) -> None:
    """Enter a run in the background, with a pause at a failpoint of the first record."""
    failpoint.arm(f"{place}=pause:{pause_s}*1")
    begin(agent, run_id, file)


def ended(agent: AgentSide) -> bool:
    """Whether the background run has ended, or none was begun."""
    return agent.runner is None or not agent.runner.is_alive()


def reached(agent: AgentSide, number: int, timeout: float = 30.0) -> None:
    """Wait until the background run has done ``number`` tools, served ones included, or ended."""
    runner = agent.runner
    with agent.changed:
        assert agent.changed.wait_for(
            lambda: runner.numbers >= number or runner.error is not None, patience(timeout)
        )


def finish(agent: AgentSide, halt: bool = True, timeout: float = 30.0) -> str:
    """Wait for the end of the background run; the name of the error that ended it."""
    if agent.runner is None:
        return ""
    if halt:
        agent.runner.halt.set()
    joined(agent.runner, timeout=timeout)
    error = agent.runner.error
    if error is not None and not isinstance(error, LivingAIError):
        raise error
    return type(error).__name__ if error is not None else ""
