"""One run of the benchmark: a fresh directory, a warm service, agents, figures, and the kill."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final

import psutil

from bench.agents import Job, Seen, agent_process
from bench.cpu import cpu_seconds
from bench.figures import Figures, figures_of
from bench.peer import stored_bytes
from bench.processes import CpuOverTime, memory_bytes, roles_of, written_bytes
from bench.recover import Saved, in_new_process
from bench.stores import SQLITE, Target
from bench.tiers import Mode, Peer, Tier
from bench.workload import Source
from livingai import Service, SQLiteStore
from livingai.stores.base import Store

#: Time for every process to be at the starting line.
_HEAD_START_S = 0.1
#: The longest part of a run takes a fraction of this.
_ANSWER_S = 180.0


_PEERS: Final = {"sqlite": "sqlite itself", "langgraph": "LangGraph's saver"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One cell of the table."""

    tier: Tier
    mode: Mode
    peer: Peer
    processes: int
    source: Source
    seed: int
    directory: str | None
    target: Target
    #: Whether the loop's lag and bare writes are measured, too, which costs the agents CPU.
    probes: bool = True
    #: The folder with the peer's packages.
    packages: str = ""
    budget_ms: float = 50.0

    @property
    def name(self) -> str:
        """Its column."""
        if self.peer != "livingai":
            return f"{_PEERS[self.peer]}, {self.mode}"
        return self.mode if self.target.name == SQLITE else f"{self.mode}, {self.target.name}"


class AgentProcesses:
    """The processes of a run and their pipes."""

    def __init__(self, setting: Setting, store: Store, directory: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection[Any, Any]] = []
        for number in range(setting.processes):
            ours, theirs = context.Pipe()
            job = Job(
                os.getpid(), store.spec(), directory, setting.tier, setting.mode, setting.peer,
                setting.packages,
                list(range(number, setting.tier.agents, setting.processes)),
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
            for pipe in self.pipes:
                pipe.send(message)
        return [self._receive(pipe) for pipe in self.pipes]

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


def run_once(setting: Setting) -> Figures:
    """Run once, in a new directory that is removed at the end."""
    directory = tempfile.mkdtemp(prefix="livingai-bench-", dir=setting.directory)
    try:
        state = os.path.join(directory, "state")
        if setting.peer != "livingai":
            return _peer(setting, state)
        with setting.target.fresh(directory) as store:
            return _livingai(setting, store, state)
    finally:
        shutil.rmtree(directory)


def _peer(setting: Setting, directory: str) -> Figures:
    database = f"{directory}.db"
    agents = AgentProcesses(setting, SQLiteStore(database), directory)
    try:
        agents.ask()
        figures = _measured(setting, agents, {})
        figures["stored_bytes"] = figures["file_bytes"] = stored_bytes(database)
    finally:
        agents.kill()
    return figures


def _livingai(setting: Setting, store: Store, directory: str) -> Figures:
    with Service(store, directory) as service:
        agents = AgentProcesses(setting, store, directory)
        try:
            agents.ask()
            figures = _measured(setting, agents, roles_of(service))
            figures.update(_stored(store, by_quarter=setting.tier.by_quarter))
            saved: Saved = {}
            for part in agents.ask("save"):
                saved.update(part)
            _kill_everything(service, agents)
        finally:
            agents.kill()
    figures["recovered_of"] = len(saved)
    figures["recovered_cache"] = in_new_process("cache", store.spec(), directory, saved)
    Service(store, directory).start().stop(timeout=600.0)
    figures["recovered_store"] = in_new_process("store", store.spec(), directory, saved)
    return figures


def _measured(setting: Setting, agents: AgentProcesses, service: dict[str, list[int]]) -> Figures:
    """The agents' run, and what all processes took for it."""
    servers = [pid for pids in service.values() for pid in pids]
    everyone = [process.pid for process in agents.processes if process.pid is not None] + servers
    before = {role: sum(map(cpu_seconds, pids)) for role, pids in service.items()}
    written = _written(everyone)
    start_ns = time.monotonic_ns() + int(_HEAD_START_S * 1e9)
    quarters: Figures = {}
    if setting.tier.by_quarter:
        with CpuOverTime(everyone).running() as cpu:
            seen: list[Seen] = agents.ask(start_ns)
        quarters = _by_quarter(cpu, [start_ns, *seen[0].quarters_ns], setting.tier)
    else:
        seen = agents.ask(start_ns)
    figures = figures_of(seen, start_ns, setting.budget_ms)
    for role, pids in service.items():
        try:
            figures[f"{role}_cpu_s"] = sum(map(cpu_seconds, pids)) - before[role]
        except OSError as error:
            raise RuntimeError(f"one of the {role} died during the run: {error}") from error
    of_all = sum(seconds for name, seconds in figures.items() if name.endswith("_cpu_s"))
    # Probes cost the agents CPU, too.
    name = "probed_save_cpu_ms" if setting.probes else "save_cpu_ms"
    figures[name] = of_all * 1e3 / figures["saves"]
    if written is not None:
        figures["written_bytes"] = (_written(everyone) or written) - written
    if servers:
        with contextlib.suppress(OSError):  # this kernel does not tell
            figures["service_memory_bytes"] = memory_bytes(servers)
    return figures | quarters


def _written(pids: list[int]) -> int | None:
    """As :func:`written_bytes`; None where the kernel does not tell."""
    try:
        return written_bytes(pids)
    except OSError:
        return None


def _by_quarter(cpu: CpuOverTime, marks_ns: list[int], tier: Tier) -> Figures:
    """CPU per save in each quarter of the steps of the one agent, all processes, in ms."""
    steps = tier.growth.steps / 4
    return {
        f"save_cpu_q{number}_ms": cpu.between(begin, end) * 1e3 / steps
        for number, (begin, end) in enumerate(itertools.pairwise(marks_ns), 1)
    }


def _stored(store: Store, *, by_quarter: bool) -> Figures:
    """Encoded bytes of all checkpoints of agents, and the size that the store reports; also the
    bytes per checkpoint in each quarter of an agent's steps."""
    figures: Figures = {}
    with store:
        page = store.list_executions(prefix="agent-", limit=10_000)
        figures["stored_bytes"] = sum(info.stored_bytes for info in page)
        figures["file_bytes"] = store.size_bytes()
        if by_quarter:
            sizes = [len(found.blob or b"") for found in store.checkpoints(page[0].execution_id)]
            ends = [len(sizes) * number // 4 for number in range(5)]
            for number, (begin, end) in enumerate(itertools.pairwise(ends), 1):
                part = sizes[begin:end]
                figures[f"stored_q{number}_bytes"] = sum(part) / max(1, len(part))
    return figures


def _kill_everything(service: Service, agents: AgentProcesses) -> None:
    """SIGKILL every process of livingai at once, with writes on their way."""
    doomed = [pid for pids in roles_of(service).values() for pid in pids]
    for process in agents.processes:
        process.kill()
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(10)
