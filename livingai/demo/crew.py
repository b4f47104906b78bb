"""The agents' processes as their parent sees them: acknowledged states, and successors."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from livingai.demo.agent import (
    Failed,
    Finished,
    Job,
    Report,
    Saved,
    Settled,
    TookOver,
    agent_process,
    digest,
)
from livingai.demo.interrupts import interrupts_held
from livingai.demo.runs import MessageRun


class Broken(Exception):
    """The demo has failed; the text says why, as a sentence."""


class Worker:
    """One process of agents."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.job = job
        #: The demo has killed it; a successor takes its runs over.
        self.killed = False
        self.finished = False
        self.pipe: Connection[Any, Report]
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=agent_process, args=(job, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        self.process.kill()

    def close(self) -> None:
        """Release a process that has ended."""
        self.process.join()
        self.pipe.close()


class Crew:
    """All processes of agents.

    :attr:`acknowledged` is what must never be lost: by execution, the step and the digest of the
    newest state whose ``save`` has returned.
    """

    def __init__(
        self, database: str, runs: list[MessageRun], processes: int, seconds: float, seed: int
    ):
        self.runs = {run.execution_id: run for run in runs}
        self.acknowledged: dict[str, tuple[int, str]] = {}
        self.saves = 0
        self.held_us: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.latency_ms: list[float] = []
        #: Runs that a successor found at exactly the acknowledged state, or at the one after it
        #: (saved, and killed before it could say so); how many of them in the hot cache.
        self.exact = self.newer = self.from_cache = 0
        self.taken_over: set[str] = set()
        self.total_steps = sum(len(run.messages) for run in runs)
        self._steps: dict[str, int] = {}
        jobs = [
            Job(os.getpid(), database, runs[number::processes], seconds, seed)
            for number in range(processes)
        ]
        self.workers: list[Worker] = []
        try:
            for job in jobs:
                self._start(job)
        except BaseException:
            self.close()
            raise

    def _start(self, job: Job) -> None:
        with interrupts_held():
            self.workers.append(Worker(job))

    @property
    def done_steps(self) -> int:
        """States saved and acknowledged, over all runs."""
        return sum(step + 1 for step, _ in self.acknowledged.values())

    @property
    def resumed(self) -> int:
        """How many runs a successor continued."""
        return self.exact + self.newer

    @property
    def working(self) -> list[Worker]:
        """Processes that are alive."""
        return [worker for worker in self.workers if worker.process.is_alive()]

    def watch(self, timeout_s: float) -> Iterator[str]:
        """Read what arrives within ``timeout_s`` seconds; yields lines for the screen.

        Raises:
            Broken: a process failed, or a successor found a wrong state.
        """
        pipes = {worker.pipe: worker for worker in self.workers}
        for ready in wait(list(pipes), timeout_s):
            worker = pipes[ready]  # type: ignore[index]
            try:
                while worker.pipe.poll():
                    self._note(worker, worker.pipe.recv())
            except (EOFError, OSError):
                yield from self._ended(worker)

    def _note(self, worker: Worker, report: Report) -> None:
        match report:
            case Saved(execution_id, step, known, held_us):
                self.saves += 1
                self.held_us.append(held_us)
                if known is not None:
                    self.acknowledged[execution_id] = (step, known)
            case Settled(status, latency_ms):
                self.outcomes[status] += 1
                self.latency_ms.append(latency_ms)
            case TookOver():
                self._compare(report)
            case Failed(reason):
                raise Broken(f"an agent process cannot go on: {reason}")
            case Finished():
                worker.finished = True

    def _compare(self, found: TookOver) -> None:
        """A successor must find the newest acknowledged state, or the one that was under way."""
        run = self.runs[found.execution_id]
        step, known = self.acknowledged.get(found.execution_id, (-1, None))
        if found.digest == known:
            self.exact += 1
        elif step + 1 < len(run.messages) and found.digest == digest(run.state(step + 1)):
            self.newer += 1
        else:
            raise Broken(
                f"the successor of {found.execution_id} found another state than the one that was "
                f"acknowledged last (step {step})"
            )
        self.from_cache += found.from_cache

    def _ended(self, worker: Worker) -> Iterator[str]:
        """A process has ended, and all that it sent has been read."""
        self.workers.remove(worker)
        worker.close()
        if worker.killed:
            runs = worker.job.runs
            self.taken_over.update(run.execution_id for run in runs)
            everyone = frozenset(run.execution_id for run in runs)
            self._start(replace(worker.job, taken_over=everyone))
            yield f"a successor takes {len(runs)} agents over"
        elif not worker.finished:
            raise Broken(
                f"an agent process ended by itself, with exit status {worker.process.exitcode}"
            )

    def unfinished(self) -> list[str]:
        """Executions whose last state was never acknowledged."""
        return [
            execution_id
            for execution_id, run in self.runs.items()
            if self.acknowledged.get(execution_id, (-1, ""))[0] != len(run.messages) - 1
        ]

    def close(self) -> None:
        """Kill the processes that are still alive."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.close()
        self.workers.clear()
