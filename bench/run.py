"""One run of the benchmark: a fresh directory, a warm service, agents, figures, and the kill."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil

from bench import curves
from bench.agent_processes import AgentProcesses
from bench.agents import PARTS
from bench.curves import Curves
from bench.figures import Figures, figures_of, outage_figures
from bench.outage import Stopped, hold, stop_of
from bench.peers.base import Place
from bench.peers.kinds import KINDS
from bench.peers.room import fresh
from bench.processes import CpuOverTime, roles_of
from bench.recover import Saved, in_new_process
from bench.seen import Seen
from bench.setting import Setting
from bench.tiers import Tier
from bench.usage import Usage, per_save
from livingai import Service, SQLiteStore
from livingai.stores.base import Store

#: Time for every process to be at the starting line.
_HEAD_START_S = 0.1


class Measured(NamedTuple):
    """What a run has given."""

    figures: Figures
    curves: Curves


def run_once(setting: Setting) -> Measured:
    """Run once, in a new directory that is removed at the end."""
    directory = tempfile.mkdtemp(prefix="livingai-bench-", dir=setting.directory)
    try:
        state = os.path.join(directory, "state")
        if setting.peer:
            measured = _peer(setting, state)
        else:
            with setting.target.fresh(directory) as store:
                measured = _livingai(setting, store, state)
    finally:
        shutil.rmtree(directory)
    figures = measured.figures
    if "stored_bytes" in figures:
        figures["stored_ratio"] = figures["raw_bytes"] / max(1.0, figures["stored_bytes"])
    return measured


def _peer(setting: Setting, directory: str) -> Measured:
    path, server = f"{directory}.db", setting.target.server
    with fresh(KINDS[setting.peer], server, path) as database:
        place = Place(path, database.url, setting.packages, setting.budget_ms)
        agents = AgentProcesses(setting, SQLiteStore(path), directory, place)
        try:
            agents.ask()
            measured = _measured(setting, agents, {})
        finally:
            agents.kill()
        if size := database.size_bytes():
            measured.figures["stored_bytes"] = measured.figures["file_bytes"] = size
    return measured


def _livingai(setting: Setting, store: Store, directory: str) -> Measured:
    with Service(store, directory) as service:
        agents = AgentProcesses(setting, store, directory, Place("", "", "", setting.budget_ms))
        try:
            agents.ask()
            stop = None
            if setting.stop:
                database = os.path.join(os.path.dirname(directory), "bench.db")
                stop = stop_of(setting.stop, service, database, setting.target.server)
            measured = _measured(setting, agents, roles_of(service), stop)
            figures, lines = _stored(store, by_quarter=setting.tier.by_quarter)
            measured = Measured(measured.figures | figures, measured.curves | lines)
            saved: Saved = {}
            for part in agents.ask("save"):
                saved.update(part)
            _kill_everything(service, agents)
        finally:
            agents.kill()
    figures = measured.figures
    figures["recovered_of"] = len(saved)
    figures["recovered_cache"] = in_new_process("cache", store.spec(), directory, saved)
    Service(store, directory).start().stop(timeout=600.0)
    figures["recovered_store"] = in_new_process("store", store.spec(), directory, saved)
    return measured


def _measured(
    setting: Setting,
    agents: AgentProcesses,
    service: dict[str, list[int]],
    stop: Stopped | None = None,
) -> Measured:
    """The agents' run, and what all processes took for it."""
    usage = Usage(agents.pids, service, setting.target.server)
    start_ns = time.monotonic_ns() + int(_HEAD_START_S * 1e9)
    extra: Figures = {}
    lines: Curves = {}
    if stop is not None:
        agents.tell(start_ns)
        lead_ns = int(setting.tier.paced_s * 1e9 / 6)
        outage = hold(stop, start_ns + lead_ns, setting.tier.paced_s * 2 / 3)
        seen: list[Seen] = agents.ask()
        extra = outage_figures(seen, *outage)
        lines = curves.over_time(seen, start_ns)
        lines["outage_s"] = [(moment - start_ns) / 1e9 for moment in outage]
    elif setting.tier.by_quarter:
        with CpuOverTime(usage.pids).running() as cpu:
            seen = agents.ask(start_ns)
        extra, lines = _by_part(cpu, [start_ns, *seen[0].parts_ns], setting.tier)
    else:
        seen = agents.ask(start_ns)
    figures = figures_of(seen, start_ns, setting.budget_ms) | usage.figures() | extra
    return Measured(figures | per_save(figures), curves.distributions(seen) | lines)


def _by_part(cpu: CpuOverTime, marks_ns: Sequence[int], tier: Tier) -> tuple[Figures, Curves]:
    """CPU per save in each quarter, and in each twentieth, of the steps of the one agent, all
    processes, in ms."""

    def between(marks: Sequence[int]) -> list[float]:
        steps = tier.growth.steps / (len(marks) - 1)
        return [cpu.between(*pair) * 1e3 / steps for pair in itertools.pairwise(marks)]

    quarters = between(marks_ns[:: PARTS // 4])
    figures = {f"save_cpu_q{number}_ms": value for number, value in enumerate(quarters, 1)}
    return figures, {"save_cpu_ms": between(marks_ns)}


def _stored(store: Store, *, by_quarter: bool) -> tuple[Figures, Curves]:
    """Encoded bytes of all checkpoints of agents, and the size that the store reports; also the
    bytes per checkpoint in each quarter, and in each twentieth, of an agent's steps."""
    figures: Figures = {}
    lines: Curves = {}
    with store:
        page = store.list_executions(prefix="agent-", limit=10_000)
        figures["stored_bytes"] = sum(info.stored_bytes for info in page)
        figures["file_bytes"] = store.size_bytes()
        if by_quarter:
            sizes = [len(found.blob or b"") for found in store.checkpoints(page[0].execution_id)]
            for number, mean in enumerate(curves.means(sizes, 4), 1):
                figures[f"stored_q{number}_bytes"] = mean
            lines["stored_bytes"] = curves.means(sizes, PARTS)
    return figures, lines


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
