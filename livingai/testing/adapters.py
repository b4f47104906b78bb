"""What all adapters of frameworks promise, as one class of tests: subclass it, have all tests.

::

    from livingai.testing import AdapterConformance

    class TestMyAdapter(AdapterConformance):
        harness = "tests.my_harness:MyHarness"

``MyHarness`` is an :class:`~livingai.testing.AdapterHarness`. It is imported by processes of its
own, which are killed: what holds here holds for ``kill -9``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from livingai.errors import InDoubtError
from livingai.testing.harness import Death

#: No wait in these tests takes longer (s), on a machine that is very busy.
_LONGEST: Final = 300.0
_TURNS: Final = 25


class HarnessProcess:
    """A process with a harness."""

    def __init__(self, spec: str, store: str, directory: str, folder: Path) -> None:
        self.log = folder / f"harness-{os.urandom(4).hex()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "livingai.testing.harness", spec, store, directory],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip

    def send(self, method: str, *arguments: Any) -> None:
        """Ask for something; :meth:`receive` gives the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([method, arguments]) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The next answer.

        Raises:
            InDoubtError: that is the answer.
            AssertionError: it failed, or the process has died.
        """
        assert self.process.stdout is not None
        timer = threading.Timer(_LONGEST, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        assert line, f"the process has died: {self.process.wait()}\n{self.said()}"
        answer = json.loads(line)
        if "in_doubt" in answer:
            raise InDoubtError(answer["in_doubt"])
        assert "value" in answer, f"{answer.get('error')}\n{self.said()}"
        return answer["value"]

    def call(self, method: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer."""
        self.send(method, *arguments)
        return self.receive()

    def said(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.process.kill()
        self.process.wait(_LONGEST)

    def died(self) -> None:
        """Wait until it has killed itself."""
        assert self.process.wait(_LONGEST) == -signal.SIGKILL, self.said()

    def end(self) -> None:
        """See that it is gone. Idempotent."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


Start = Callable[[], HarnessProcess]


@contextmanager
def started(spec: str, store: str, directory: str, folder: Path) -> Iterator[Start]:
    """Starts processes with a harness; all are killed at the end."""
    with ExitStack() as stack:

        def start() -> HarnessProcess:
            process = HarnessProcess(spec, store, directory, folder)
            stack.callback(process.end)
            return process

        yield start


class AdapterConformance:
    """What all adapters promise. Override :attr:`harness`, and :meth:`store` for another store."""

    #: Where the harness is: ``module:class``.
    harness: str = ""

    def store(self, tmp_path: Path) -> tuple[str, str]:
        """URL of an empty store for ``tmp_path``, and the state directory ("": beside it)."""
        return f"sqlite:///{tmp_path / 'agent.db'}", ""

    @pytest.fixture
    def start(self, tmp_path: Path) -> Iterator[Start]:
        """Starts processes with the harness, all on one store and one state directory."""
        with started(self.harness, *self.store(tmp_path), tmp_path) as start:
            yield start

    def test_what_one_process_writes_another_reads_at_once(
        self, start: Start, tmp_path: Path
    ) -> None:
        writer, reader, said = start(), start(), str(tmp_path / "said")
        for turn in range(5):
            writer.call("write", "thread", [f"text {turn}"], said)
            assert reader.call("read", "thread") == [f"text {n}" for n in range(turn + 1)]

    @pytest.mark.parametrize("behind", [1, 7, 20])
    def test_what_was_acknowledged_survives_a_kill(
        self, start: Start, tmp_path: Path, behind: int
    ) -> None:
        """Wherever the process is by then; it is in the order in which it was written."""
        said, texts = tmp_path / "said", [f"text {number}" for number in range(2000)]
        writer = start()
        writer.send("write", "thread", texts, str(said))
        deadline = time.monotonic() + _LONGEST
        while not said.exists() or said.read_text().count("\n") < behind:
            assert writer.process.poll() is None, writer.said()
            assert time.monotonic() < deadline, writer.said()
            time.sleep(0.002)
        writer.kill()
        told = said.read_text().splitlines()
        found = start().call("read", "thread")
        assert found == texts[: len(found)], "something is lost, or in another order"
        assert len(told) <= len(found) <= len(told) + 1
        start().call("write", "thread", ["later"], str(said))
        assert start().call("read", "thread") == [*found, "later"]

    def test_threads_are_apart(self, start: Start, tmp_path: Path) -> None:
        process, said = start(), str(tmp_path / "said")
        names = ["thread", "Thread", "thread/1", "thread:1", "thread 1", "ä", "x" * 300]
        for name in names:
            process.call("write", name, [f"of {name}"], said)
        other = start()
        for name in names:
            assert other.call("read", name) == [f"of {name}"]
        assert other.call("read", "of nobody") == []

    def test_several_processes_write_at_once(self, start: Start, tmp_path: Path) -> None:
        processes = [start() for _ in range(3)]
        written = [
            [f"{number}: {turn}" for turn in range(_TURNS)] for number in range(len(processes))
        ]
        one = processes[0].call("several_writers")
        threads = ["thread" if one else f"thread {number}" for number in range(len(processes))]
        for turn in range(_TURNS):  # else one might be done before the next one begins
            for process, thread, texts in zip(processes, threads, written, strict=True):
                process.send("write", thread, [texts[turn]], str(tmp_path / "said"))
            for process in processes:
                process.receive()
        reader = start()
        for thread, texts in zip(threads, written, strict=True):
            found = reader.call("read", thread)
            assert [text for text in found if text in texts] == texts
            assert len(found) == _TURNS * threads.count(thread), "lost, or there twice"

    def test_a_run_is_recorded(self, start: Start, tmp_path: Path) -> None:
        process = start()
        assert process.call("run", "thread", str(tmp_path / "effects"), "") == "effected"
        nodes = start().call("nodes", "thread")
        kinds = [(kind, status) for kind, status, _ in nodes]
        assert kinds.count(("tool", "success")) == 1, nodes
        assert ("prompt", "success") in kinds, nodes
        assert {name for kind, _, name in nodes if kind in ("tool", "prompt")} != {""}, nodes

    @pytest.mark.parametrize("death", ["before", "behind"])
    def test_a_tool_is_called_at_most_once(
        self, start: Start, tmp_path: Path, death: Death
    ) -> None:
        """Whenever the process dies: the resumed run has the tool's result, or says that it cannot
        know; that it was about to be called is recorded before it is."""
        effects = tmp_path / "effects"
        doomed = start()
        doomed.send("run", "thread", str(effects), death)
        doomed.died()
        kinds = [(kind, status) for kind, status, _ in start().call("nodes", "thread")]
        assert ("tool", "running") in kinds, kinds
        for _ in range(2):
            with pytest.raises(InDoubtError):
                start().call("run", "thread", str(effects), "")
        happened = effects.read_text().splitlines() if effects.exists() else []
        assert happened == ["thread"] * (death == "behind")
