"""The test's side of an agent process."""

from __future__ import annotations

import base64
import json
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import acts
from tests.support.agent_main import from_json, to_json
from tests.support.patience import Deadline, patience
from tests.support.waiting import ended

ROOT = Path(__file__).resolve().parents[2]
#: Short-lived services and few processes, so that tests are quick; patches of small states, too, so
#: that whatever is killed meets some.
DEFAULTS: dict[str, Any] = {
    "idle_s": 0.2, "compressors": 1, "service_timeout_s": 20.0, "patch_from_bytes": 256,
}  # fmt: skip


def engine_settings(**own: Any) -> dict[str, Any]:
    """Settings of an engine: a test's own, and the usual ones."""
    return {**_stretched(DEFAULTS), **own}


def _stretched(settings: dict[str, Any]) -> dict[str, Any]:
    if "service_timeout_s" in settings:
        return {**settings, "service_timeout_s": patience(settings["service_timeout_s"])}
    return settings


class AgentDied(AssertionError):
    """The agent process ended instead of answering."""


def environment(**more: str) -> dict[str, str]:
    """The environment of a process that imports the tests' modules."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LIVINGAI_TESTING": "1",  # else no failpoint can be armed
        # What is warned about is written to the logs, which the end of a test looks through.
        "PYTHONWARNINGS": "error,ignore::DeprecationWarning",
        **more,
    }


class Agent:
    """A process that holds a ``CheckpointEngine`` and does what it is told."""

    def __init__(
        self,
        database: Path | str,
        log: Path,
        settings: dict[str, Any],
        *,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        defaults: dict[str, Any] = DEFAULTS,
        **popen: Any,
    ) -> None:
        """``database`` is a path or a store's URL; ``prefix`` is the begin of a command line that
        ends with the agent's; ``defaults`` are settings, under the given ones."""
        self.log = log
        with open(log, "wb") as err:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "tests.support.agent_main", str(database),
                 json.dumps({**_stretched(defaults), **settings})],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, bufsize=0,
                cwd=log.parent, env=environment(**env or {}), **popen,
            )  # fmt: skip
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Have the agent call ``function(agent_side, ...)`` and wait for its value; raises what it
        raises."""
        self.send(function, *arguments, **keywords)
        return self.receive()

    def send(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """As :meth:`call`, without waiting. Raises AgentDied."""
        request = [function.__module__, function.__name__, arguments, keywords]
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request, default=to_json).encode() + b"\n")
        except BrokenPipeError as error:
            raise AgentDied(f"agent ended with {ended(self.process)}; {self.said()}") from error

    def receive(self, timeout: float = 60.0) -> Any:
        """The answer to the oldest :meth:`send` that has not been answered."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        deadline = Deadline(timeout)
        while b"\n" not in self._rest:
            if not poll.poll(deadline.left() * 1000):
                if deadline.left():
                    continue
                raise AssertionError(f"no answer within {deadline}; {self.said()}")
            data = os.read(fd, 1 << 20)
            if not data:
                raise AgentDied(f"agent ended with {ended(self.process)}; {self.said()}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer = json.loads(line, object_hook=from_json)
        if "error" in answer:
            raise pickle.loads(base64.b64decode(answer["error"]))
        return answer["value"]

    def settled(self, writes: int | None = None, timeout: float = 30.0) -> dict[str, int]:
        """Wait until each of its writes has its one outcome; how many of each status."""
        summed = self.call(acts.outcomes, timeout=timeout)
        assert summed["known"] == summed["writes"], f"writes without an outcome: {summed}"
        assert summed["told_twice"] == 0
        assert writes is None or summed["writes"] == writes
        statuses: dict[str, int] = summed["statuses"]
        assert sum(statuses.values()) == summed["writes"]
        return statuses

    def said(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text(errors="replace")

    def died(self, timeout: float = 30.0) -> int:
        """Wait for its end; the exit status."""
        return ended(self.process, timeout)

    def kill(self) -> None:
        """kill -9, and wait for it."""
        self.process.kill()
        ended(self.process)

    def stop(self) -> None:
        """SIGSTOP, and wait until it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def leave(self, timeout: float = 30.0) -> int:
        """End its input: it exits by itself, without close(); the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return ended(self.process, timeout)

    def end(self) -> None:
        """Make sure that it is gone and its pipes are closed. Idempotent."""
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
