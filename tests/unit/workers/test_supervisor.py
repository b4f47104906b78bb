"""When a dispatcher that dies is started again, and when it is given up.

The lives are told, not lived: twenty of them take minutes. ``tests/integration/service`` has real
ones.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from livingai.protocol.exit_codes import ExitCode
from livingai.workers import supervisor
from livingai.workers.supervisor import Supervisor

#: Seconds that a life took, its exit status, and what was said at its end.
Life = tuple[float, int, dict[str, Any]]

KILLED, FAILED = -9, 1
EARLY, LATER, SOUND = 1.0, 6.0, 61.0


class Told(Supervisor):
    """Lives as they are told; at their end it is asked to stop."""

    def __init__(self, lives: Sequence[Life]) -> None:
        super().__init__(b"{}\n")
        self.now = 1000.0
        self.lives = list(lives)
        self.pauses: list[float] = []

    def _live_once(self) -> tuple[int, dict[str, Any]]:
        if not self.lives:
            self._stopping = True
            return 0, {}
        lived_s, code, words = self.lives.pop(0)
        self.now += lived_s
        return code, words

    def _pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return self._stopping

    def _reap_rest(self) -> None:
        """The children of this process are others'."""


def told(monkeypatch: pytest.MonkeyPatch, lives: Sequence[Life]) -> tuple[int, int, list[float]]:
    """Exit status, how many lives were left over, and the pauses between them."""
    found = Told(lives)
    clock = SimpleNamespace(monotonic=lambda: found.now, strftime=time.strftime)
    monkeypatch.setattr(supervisor, "time", clock)
    code = found.run()
    closed(found)
    return code, len(found.lives), found.pauses


def closed(found: Supervisor) -> None:
    for end in (found._told, found._tell):
        os.close(end)


def deaths(count: int, lived_s: float, code: int) -> list[Life]:
    return [(lived_s, code, {})] * count


@pytest.mark.parametrize("code", [KILLED, FAILED])
def test_one_that_dies_early_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    assert told(monkeypatch, deaths(10, EARLY, code))[:2] == (ExitCode.FAILED, 2)
    mixed = [*deaths(7, EARLY, code), *deaths(1, LATER, code), *deaths(6, EARLY, code)]
    assert told(monkeypatch, mixed)[:2] == (ExitCode.DONE, 0)
    assert told(monkeypatch, [*mixed, *deaths(3, EARLY, code)])[:2] == (ExitCode.FAILED, 2)


def test_one_that_dies_of_itself_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that others kill: that says nothing of its next life."""
    assert told(monkeypatch, deaths(25, LATER, FAILED))[:2] == (ExitCode.FAILED, 5)
    assert told(monkeypatch, deaths(60, LATER, KILLED))[:2] == (ExitCode.DONE, 0)
    both = [*deaths(19, LATER, FAILED), *deaths(30, LATER, KILLED)]
    assert told(monkeypatch, both)[:2] == (ExitCode.DONE, 0)
    assert told(monkeypatch, [*both, *deaths(3, LATER, FAILED)])[:2] == (ExitCode.FAILED, 2)
    sound = [*deaths(19, LATER, FAILED), *deaths(1, SOUND, FAILED), *deaths(18, LATER, FAILED)]
    assert told(monkeypatch, sound)[:2] == (ExitCode.DONE, 0)


def test_pauses_grow_until_it_has_lived_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = [*deaths(9, LATER, KILLED), *deaths(1, SOUND, KILLED), *deaths(2, LATER, KILLED)]
    growing = [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.0, 2.0]
    assert told(monkeypatch, lives)[2] == pytest.approx([*growing, 0.02, 0.04, 0.08])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"done": True}, ExitCode.DONE),
        ({"done": True, "left": 3}, ExitCode.DONE),
        ({"done": False, "left": 3}, ExitCode.RECORDS_LEFT),
        ({"done": False, "left": 0}, ExitCode.DONE),
    ],
)
def test_one_that_is_done_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], code: int
) -> None:
    lives: list[Life] = [(LATER, 0, words), *deaths(1, LATER, KILLED)]
    assert told(monkeypatch, lives) == (code, 1, [])


def test_another_service_has_the_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    lives: list[Life] = [(EARLY, ExitCode.RUNNING, {}), *deaths(1, LATER, KILLED)]
    assert told(monkeypatch, lives) == (ExitCode.RUNNING, 1, [])


def test_what_was_reported_is_over_once_it_has_lived_for_some_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Waiting(Supervisor):
        def __init__(self) -> None:
            super().__init__(b"{}\n")
            self.slept: list[float | None] = []
            self.reports: list[str] = []

        def _reap(self) -> int | None:
            return ExitCode.DONE if self.slept else None

        def _sleep(self, seconds: float | None) -> None:
            self.slept.append(seconds)

        def _report(self, trouble: str) -> None:
            self.reports.append(trouble)

    expected: list[str]
    for healthy_s, expected in ((1e6, []), (-1.0, [""])):
        monkeypatch.setattr(supervisor, "_HEALTHY_S", healthy_s)
        found = Waiting()
        assert found._wait() == ExitCode.DONE
        assert found.reports == expected
        assert (found.slept == [None]) == bool(expected)
        closed(found)


def test_a_stop_in_a_pause_ends_it() -> None:
    found = Supervisor(b"{}\n")
    found.stop()
    found._sleep(None)  # it does not sleep
    assert found._pause(0.0)
    closed(found)


def test_a_stop_while_a_dispatcher_is_started_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneChild(Supervisor):
        def _settle_in(self) -> None:
            """This process stays no reaper of others."""

        def _wait(self) -> int:
            return os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])

    program = tmp_path / "dispatcher"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", os.fspath(program))
    found = OneChild(b"{}\n")
    found.stop()
    assert found._live_once() == (-signal.SIGTERM, {})
    closed(found)
