"""A soak: real agents write, read and take over, while any processes are killed and stopped; then
everything that was logged is judged (:mod:`tests.support.history`)."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from livingai import Service
from livingai.errors import LivingAIError
from livingai.inspection.check import check_directory
from livingai.stores.base import SizedBlob
from livingai.stores.opening import open_store
from livingai.stores.states import StateDecoder
from tests.support.agents import DEFAULTS, environment
from tests.support.history import Entry, History, Read, Stored, Write, summary, violations
from tests.support.processes import TAG, end_all, is_tracker, tagged
from tests.support.soak_agent import state_named
from tests.support.waiting import ended, kill, until

#: Kills of a round; then all is settled and judged.
ROUND = 40
_LONGEST_S = 300.0
_ENGINE: dict[str, Any] = {
    **DEFAULTS, "segment_bytes": 1 << 16, "journal_bytes": 1 << 21, "cache_bytes": 1 << 17,
    "on_full": "raise", "service_timeout_s": 60.0, "patch_from_bytes": 2000,
}  # fmt: skip


class Soak:
    """Agents of one or several hosts (state directories) on one store."""

    def __init__(self, store: str, folder: Path, seed: int, *, hosts: int = 1) -> None:
        self.store = store
        self.folder = folder
        self.seed = seed
        self.chance = random.Random(seed)
        self.tag = secrets.token_hex(8)
        #: State directories; with a SQLite file, the one beside it.
        self.directories = [str(folder / f"host-{number}") for number in range(hosts)]
        self.counts: Counter[str] = Counter()
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._hosts: dict[str, str] = {}
        #: By then an agent was dead (CLOCK_MONOTONIC ns).
        self._died_at: dict[str, int] = {}
        self._born = 0
        self._rounds = 0

    def run(self, kills: int) -> Counter[str]:
        """Rounds until so many processes were killed; what happened. Raises AssertionError."""
        try:
            while self.counts["kills"] < kills:
                self.counts.update(summary([self._round(min(ROUND, kills - self.counts["kills"]))]))
        finally:
            self._end()
        return self.counts

    def _round(self, kills: int) -> History:
        self._rounds += 1
        executions = [f"run-{self._rounds}-{number}" for number in range(4)]
        logs: dict[str, Path] = {}
        for directory in self.directories:
            for _ in range(3 if len(self.directories) == 1 else 2):
                self._start_agent(directory, executions, logs)
        goal = self.counts["kills"] + kills
        while self.counts["kills"] < goal:
            self._some_calls(logs)
            threading.Event().wait(self.chance.random() * 0.03)
            self._strike(executions, logs)
        self._resume()
        living = list(self._agents)
        for name in living:
            self._leave(name)
        history = History(living=set(living))
        for name, log in logs.items():
            _read_log(history, name, self._hosts[name], log)
        for entry in history.entries:
            entry.returned = min(entry.returned, self._died_at.get(entry.agent, entry.returned))
        self._drain()
        self._look_into_store(history, executions)
        found = violations(history)
        assert not found, f"seed {self.seed}, round {self._rounds}:\n  " + "\n  ".join(found[:20])
        return history

    # -- processes --

    def _start_agent(self, directory: str, executions: list[str], logs: dict[str, Path]) -> None:
        self._born += 1
        name = f"agent-{self._born}"
        logs[name] = self.folder / f"{name}.log"
        settings = {
            "name": name, "executions": executions, "seed": self.seed, "log": str(logs[name]),
            "store": self.store, "directory": directory, "engine": _ENGINE,
        }  # fmt: skip
        with open(self.folder / f"{name}.err", "wb") as errors:
            self._agents[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.support.soak_agent", json.dumps(settings)],
                stdin=subprocess.PIPE, stdout=errors, stderr=errors,
                env=environment(**{TAG: self.tag}), cwd=self.folder,
            )  # fmt: skip
        self._hosts[name] = directory

    def _strike(self, executions: list[str], logs: dict[str, Path]) -> None:
        """Something bad."""
        chance = self.chance
        if chance.random() < 0.4:
            name = chance.choice(list(self._agents))
            if not logs[name].exists():  # it is only starting
                return
            kill(self._agents[name].pid)
            self._forget(name)
            self._died_at[name] = time.monotonic_ns()
            self.counts["kills"] += 1
            self.counts["agents killed"] += 1
            self._start_agent(self._hosts[name], executions, logs)
            return
        there = self._service()
        victims = chance.sample(there, min(len(there), chance.choice((1, 1, 1, 2, 3, 99))))
        if chance.random() < 0.8:
            kill(*victims)
            self.counts["kills"] += len(victims)
            self.counts["service's processes killed"] += len(victims)
            return
        self.counts["processes stopped"] += len(victims)
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(chance.random() * 0.5)
        self._resume()

    def _some_calls(self, logs: dict[str, Path]) -> None:
        """Wait until the agents have done a few things more."""

        def done() -> int:
            for name, process in self._agents.items():
                code = process.poll()
                assert code is None, (
                    f"seed {self.seed}: {name} ended with {code}: {self._said(name)}"
                )
            return sum(logs[name].stat().st_size for name in self._agents if logs[name].exists())

        goal = done() + self.chance.randrange(20_000)
        until(lambda: done() >= goal, what="agents that go on", timeout=_LONGEST_S)

    def _forget(self, name: str) -> None:
        process = self._agents.pop(name)
        ended(process, timeout=60)
        assert process.stdin is not None
        process.stdin.close()

    def _leave(self, name: str) -> None:
        """An agent has all its outcomes, and ends."""
        process = self._agents[name]
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        code = ended(process, timeout=_LONGEST_S + 60)
        del self._agents[name]
        assert code == 0, f"seed {self.seed}: {name} ended with {code}: {self._said(name)}"

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.err").read_text(errors="replace")[-3000:]

    def _service(self) -> list[int]:
        agents = {process.pid for process in self._agents.values()}
        return [p.pid for p in tagged(self.tag) if p.pid not in agents and not is_tracker(p)]

    def _resume(self) -> None:
        for process in tagged(self.tag):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def _drain(self) -> None:
        """The service stores what the dead have left, and ends."""
        until(lambda: not tagged(self.tag), what="the end of the service", timeout=_LONGEST_S)
        for directory in self.directories:
            with Service(open_store(self.store), directory):
                pass
        until(lambda: not tagged(self.tag), what="the end of all processes", timeout=_LONGEST_S)
        for directory in self.directories:
            report = check_directory(directory)
            assert report.ok, f"seed {self.seed}: {report.errors}"

    def _end(self) -> None:
        end_all(self.tag)
        for name in list(self._agents):
            self._forget(name)

    # -- what came of it --

    def _look_into_store(self, history: History, executions: list[str]) -> None:
        with open_store(self.store) as store:
            for execution in executions:
                owners = dict(store.owners(execution))
                decoder = StateDecoder(store, execution, max_bytes=1 << 24, remembered=64)
                for row in store.checkpoints(execution):
                    assert row.blob is not None
                    state = None
                    with suppress(LivingAIError):
                        state = decoder.decode(SizedBlob(row.blob, row.raw_bytes), row.content_hash)
                    owner = owners.get(row.epoch) or ""
                    version = (row.epoch, row.seq)
                    history.stored.append(Stored(execution, owner, version, state))


def _read_log(history: History, agent: str, host: str, log: Path) -> None:
    """What an agent has noted."""
    writes: dict[str, Write] = {}
    entered: list[Entry] = []
    if not log.exists():
        return
    for line in log.read_text().splitlines():
        note = json.loads(line)
        kind, at = note["kind"], note.get("at", 0)
        if kind == "save":
            key, execution = note["key"], note["execution"]
            state = state_named(execution, key, note["size"])
            writes[key] = Write(key, execution, state, agent, host, note["history"], at)
        elif kind == "saved":
            write = writes[note["key"]]
            write.returned, write.owner = at, note["owner"]
            write.claim, write.seq = note["claim"], note["seq"]
        elif kind == "refused":
            writes[note["key"]].refused, writes[note["key"]].returned = True, at
        elif kind == "told":
            writes[note["key"]].told.append((at, note["status"]))
        elif kind == "entered":
            entered.append(Entry(note["execution"], agent, host, note["claim"], note["began"]))
        elif kind == "read":
            history.reads.append(
                Read(note["execution"], agent, host, note["began"], at, note["key"], note["sound"])
            )
        if kind in ("saved", "claimed"):
            execution = writes[note["key"]].execution if kind == "saved" else note["execution"]
            for entry in entered:
                if entry.execution == execution and entry.began <= at:
                    entry.returned = min(entry.returned, at)
    history.writes += writes.values()
    history.entries += entered
