"""The processes of agents of a run, from the parent's side."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

from bench.agents import Job, agent_process
from bench.peers.base import Place
from bench.setting import Setting
from livingai.stores.base import Store

#: The longest part of a run takes a fraction of this.
_ANSWER_S: Final = 180.0


class AgentProcesses:
    """The processes of a run and their pipes."""

    def __init__(self, setting: Setting, store: Store, directory: str, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection[Any, Any]] = []
        for number in range(setting.processes):
            ours, theirs = context.Pipe()
            job = Job(
                os.getpid(), store.spec(), directory, setting.tier, setting.mode, setting.peer,
                place, list(range(number, setting.tier.agents, setting.processes)),
                setting.source, setting.seed, setting.probes, setting.budget_ms,
            )  # fmt: skip
            process = context.Process(target=agent_process, args=(job, theirs))
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(ours)

    def ask(self, message: object = None) -> list[Any]:
        """Send ``message`` (unless None) to all, and what each answers."""
        if message is not None:
            self.tell(message)
        return [self._receive(pipe) for pipe in self.pipes]

    def tell(self, message: object) -> None:
        """Send ``message`` to all."""
        for pipe in self.pipes:
            pipe.send(message)

    def _receive(self, pipe: Connection[Any, Any]) -> Any:
        if not pipe.poll(_ANSWER_S):
            raise RuntimeError(f"an agent process has said nothing for {_ANSWER_S:.0f} s")
        try:
            return pipe.recv()
        except EOFError:
            raise RuntimeError("an agent process ended by itself") from None

    def kill(self) -> None:
        """SIGKILL; idempotent."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    @property
    def pids(self) -> list[int]:
        """Their process ids."""
        return [process.pid for process in self.processes if process.pid is not None]
