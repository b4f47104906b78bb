"""A place for a test: one database, its state directory, and all processes that work there.

At its end (:meth:`Place.finish`) nothing may be left: no process, socket, descriptor, mapping or
thread, no journal once everything in it is stored, no damage, and no traceback in any log.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from livingai import CheckpointEngine, Service
from livingai.protocol.ask import ask_service
from livingai.protocol.verbs import verb_named
from livingai.queue.directory import StateDirectory
from livingai.queue.tail import JournalTail
from livingai.stores.base import Store
from livingai.stores.opening import open_store
from tests.support import peek
from tests.support.agents import Agent, engine_settings
from tests.support.logs import own_text
from tests.support.processes import end_all, is_tracker, tagged
from tests.support.waiting import is_running, until


class Place:
    """One database, its state directory, and the processes that a test starts there. The database
    is a file of the place, unless ``url`` names another store."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        self.database = folder / "agent.db"
        #: What opens the store: a URL, or the path of the file.
        self.where = url or str(self.database)
        self.directory = StateDirectory(folder / "state" if url else f"{self.database}-livingai")
        self.tag = secrets.token_hex(8)
        #: An execution of the running test's own.
        self.run = "run-1"
        self.agents: list[Agent] = []
        self._born = 0
        #: For tests that break things on purpose: what the logs may hold, and that the last service
        #: was killed, so that its socket file stays until the next one comes.
        self.tracebacks_allowed = False
        self.service_killed = False
        self.mark()

    # -- agents and services --

    def agent(self, **settings: Any) -> Agent:
        """Start an agent process; settings are the engine's, a few go to the process."""
        names = ("env", "prefix", "preexec_fn", "defaults")
        popen = {name: settings.pop(name) for name in names if name in settings}
        self._born += 1
        log = self.folder / f"agent-{self._born}.log"
        if self.where != str(self.database):
            settings.setdefault("directory", self.directory.path)
        agent = Agent(settings.pop("database", self.where), log, settings, **popen)
        self.agents.append(agent)
        return agent

    def store(self) -> Store:
        """The place's store."""
        return open_store(self.where)

    def engine(self, **settings: Any) -> CheckpointEngine:
        """An engine in the test's own process."""
        return CheckpointEngine(self.store(), **engine_settings(**settings))

    def service(self) -> Service:
        """A service of the test's own, not started yet."""
        return Service(self.store(), self.directory.path)

    def ask(self, verb: str) -> Any:
        """Ask the service that runs."""
        return ask_service(self.directory, self.store().url, verb_named(verb))

    def pids(self) -> dict[str, Any]:
        """Processes of the service by role, once it is up."""

        def look() -> dict[str, Any]:
            with suppress(ConnectionError):
                self.ask("ready")
                found: dict[str, Any] = self.ask("status").to_wire()["pids"]
                return found
            return {}

        return until(look, what="a service that answers", timeout=60)

    def compressors(self) -> list[int]:
        """Those of the compressors, once they are up: a service on demand starts them for the first
        state that is large (``LARGE`` of :mod:`tests.support.states`)."""

        def look() -> list[int]:
            with suppress(ConnectionError):  # a service that dies as it is asked
                status = self.ask("status")
                if status.compression.startswith("in ") and "processes" in status.compression:
                    return list(status.pids.compressors)
            return []

        self.pids()
        return until(look, what="compressors", timeout=60)

    def processes(self) -> list[psutil.Process]:
        """Every process that works here, but this one."""
        return tagged(self.tag)

    def service_processes(self) -> list[int]:
        """Process ids of all of the service's processes, the oldest first; without the resource
        tracker, which ends by itself."""
        agents = {agent.pid for agent in self.agents}
        found = [p for p in self.processes() if p.pid not in agents and not is_tracker(p)]
        return [p.pid for p in sorted(found, key=lambda p: p.create_time())]

    def kill_service(self) -> None:
        """SIGKILL for all of the service's processes and for what those are just starting, until
        none is left."""
        until(self._none_left, what="no process of the service")

    def _none_left(self) -> bool:
        left = self.service_processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    def socket_left(self) -> bool:
        """Whether there is a socket file."""
        return os.path.exists(f"{self.directory.path}/service.sock")

    def journals(self) -> list[str]:
        """Folders of the journals that are there."""
        return self.directory.journal_paths()

    # -- the end --

    def mark(self) -> None:
        """What this process has now is not the test's."""
        self._descriptors = _descriptors()
        self._children = {child.pid for child in psutil.Process().children()}

    def end_agents(self) -> None:
        """End the agents, and see that they left nothing in this process."""
        for agent in self.agents:
            agent.end()
        self._check_own_process()
        self.agents.clear()

    def empty(self, timeout: float = 30.0) -> None:
        """Wait until no process is left here."""
        until(lambda: not self.processes(), what="no process left", timeout=timeout)

    def finish(self) -> None:
        """End the agents, then see that nothing is left."""
        for agent in self.agents:
            agent.end()
        self._resume_all()
        try:
            self.empty()
        except AssertionError:
            left = [f"{p.pid} {' '.join(p.cmdline())}" for p in self.processes()]
            end_all(self.tag)
            raise AssertionError(f"processes left after 10 s: {left}") from None
        if os.path.exists(self.directory.service_state):
            self._check_journals()
            assert not self.socket_left(), "a socket is left"
        if self.database.exists():
            peek.check_database(self.database)
        self._check_logs()
        self._check_own_process()

    def _resume_all(self) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def _check_journals(self) -> None:
        """A journal that is left has to be intact, and to hold something that was not stored; a
        service that is started now stores it."""
        left = self.journals()
        assert self.service_killed or not self.socket_left(), "a socket is left"
        for path in left:
            tail = JournalTail(path)
            try:
                records = list(tail.read(alive=False))
                assert not tail.damage, tail.damage
                waiting = [found for found in records if not peek.has_outcome(tail, found)]
                assert waiting, f"{path}: all of its {len(records)} records are stored"
            finally:
                tail.close()
        if left or self.service_killed:
            with self.service():
                self.ask("drain")
            self.empty()
        assert self.journals() == [], "a journal is left though everything is stored"

    def _check_logs(self) -> None:
        for log in [*self.folder.glob("agent-*.log"), Path(self.directory.log)]:
            if log.exists() and not self.tracebacks_allowed:
                text = own_text(log.read_text(errors="replace"))
                for sign in ("Traceback", "Warning:", "Exception ignored"):
                    assert sign not in text, f"{log}:\n{text}"

    def _check_own_process(self) -> None:
        gc.collect()
        left = {
            fd: what for fd, what in _descriptors().items() if self._descriptors.get(fd) != what
        }
        assert not left, f"descriptors left: {left}"
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            mapped = [line for line in maps if self.directory.path in line]
        assert not mapped, f"mappings left: {mapped}"
        threads = [t.name for t in threading.enumerate() if t.name.startswith("livingai")]
        assert not threads, f"threads left: {threads}"
        children = {child.pid for child in psutil.Process().children()} - self._children
        assert not children, f"children left: {[(pid, is_running(pid)) for pid in children]}"


def _descriptors() -> dict[int, str]:
    """Open descriptors of this process, and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: what for fd, what in found.items() if not what.startswith("/proc/")}
