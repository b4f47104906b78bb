"""An agent that lives through a recorded run, and a nursery that kills it at every boundary.

``message_agent DATABASE FOLDER FILE`` reads runs from FILE and brings each of them to its end as a
recorded program, in one process after the other: process by process dies by SIGKILL right after the
checkpoint of message 0, 1, 2, ..., and once inside each tool call, before or after its effect. The
effect is a line in an outside file, so the number of its lines is how often it happened.

Each process is forked from this one, which holds no engine, so that a death costs milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from livingai import CheckpointEngine, ExecutionNode, Resolution, SQLiteStore, SyncRun
from livingai.adapters.messages import RecordedRun

#: The last message boundary: no process is killed there.
END = 1 << 30


class Program:
    """What the agent does: the model, the user and the tools say what is recorded."""

    def __init__(
        self,
        run: RecordedRun,
        effect: Callable[[int], None],
        boundary: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.messages = run.messages
        self.effect = effect
        self.boundary = boundary

    def __call__(self, run: SyncRun) -> int:
        state: list[Any] = []
        for number, message in enumerate(self.messages):
            if message["role"] == "tool":
                call = state[-1]["tool_calls"][0]["function"]
                content = run.tool(call["name"], self.act, number, call["arguments"])
                said = {**message, "content": content}
            else:
                said = run.step(message["role"], self.say, number)
            state.append(said)
            run.state = state
            run.checkpoint()
            self.boundary(number)
        return len(state)

    def say(self, number: int) -> Any:
        """A model, or a user: answers after so many messages."""
        return self.messages[number]

    def act(self, number: int, arguments: str) -> Any:
        """A tool with a side effect."""
        self.effect(number)
        return self.messages[number]["content"]


class Life:
    """One process's part of a run: it dies at a boundary, or inside a tool call."""

    def __init__(self, run: RecordedRun, folder: Path, die_at: int, die_inside: bool) -> None:
        self.run, self.folder = run, folder
        self.die_at, self.die_inside = die_at, die_inside

    def line(self, number: int) -> str:
        """What the outside file has for a tool's effect."""
        return f"{self.run.execution_id} {number}"

    def live(self, database: str) -> None:
        """Go on with the run until death, or to its end."""
        program = Program(self.run, self.effect, self.boundary)
        engine = CheckpointEngine(SQLiteStore(database), idle_s=5.0, compressors=1)
        with engine.run_sync(self.run.execution_id, resolver=self.resolve) as run:
            program(run)
        engine.close_sync()

    def boundary(self, number: int) -> None:
        if number == self.die_at and not self.die_inside:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, number: int) -> None:
        dies = self.die_inside and number == self.die_at
        after = hashlib.sha256(self.line(number).encode()).digest()[0] % 2
        if dies and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        append(self.folder / "effects", self.line(number))
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    def resolve(self, node: ExecutionNode) -> Resolution:
        """What an operator does: look outside whether it happened."""
        number = node.input["args"][0]
        append(self.folder / "doubts", self.line(number))
        if self.line(number) in (self.folder / "effects").read_text().splitlines():
            return Resolution.done(self.run.messages[number]["content"])
        return Resolution.retry()


def append(path: Path, line: str) -> None:
    """One write, so a line is there whole or not at all."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, line.encode() + b"\n")
    os.close(fd)


def fork(life: Life, database: str) -> int:
    """Live in a process of its own; how that ended."""
    pid = os.fork()
    if pid == 0:
        try:
            life.live(database)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def bring_to_end(run: RecordedRun, folder: Path, database: str) -> int:
    """All lives of one run; how many were killed."""
    deaths = 0
    for number, message in enumerate(run.messages):
        for inside in (True, False) if message["role"] == "tool" else (False,):
            code = fork(Life(run, folder, number, inside), database)
            if code != -signal.SIGKILL:
                raise SystemExit(f"{run.execution_id} {number} {inside}: ended with {code}")
            deaths += 1
    if fork(Life(run, folder, END, False), database) != 0:
        raise SystemExit(f"{run.execution_id} did not come to its end")
    return deaths


def main() -> None:
    """Bring every run of the file to its end; prints how many processes died on the way."""
    database, folder, file = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    (folder / "effects").touch()
    with open(file, encoding="utf-8") as lines:
        runs = [RecordedRun(**json.loads(line)) for line in lines]
    print(sum(bring_to_end(run, folder, database) for run in runs))


if __name__ == "__main__":
    main()
