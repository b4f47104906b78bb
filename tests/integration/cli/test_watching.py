"""`livingai status`, `stat`, `tail` and `drain` on real services."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import IO, Any

import pytest

from livingai import CheckpointEngine, ExecutionNode, NodeType, Status
from livingai.protocol import verbs
from livingai.protocol.ask import ask_service
from livingai.protocol.watched import KEPT
from tests.support import acts, peek
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import leave_a_record
from tests.support.sqlite import refusing
from tests.support.waiting import ended, frozen, kill, until

HOSTILE = "run \x1b[2J\u202e"


def _environment() -> dict[str, str]:
    """The store by its variable, and lines that are not cut."""
    env = {**environment(), "LIVINGAI_STORE": "agent.db"}
    env.pop("COLUMNS", None)
    return env


def run(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command on the place's database, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments],
        env=_environment(), cwd=place.folder,
        capture_output=True, text=True, timeout=patience(90), check=False,
    )  # fmt: skip


@contextmanager
def running(place: Place, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on, its output in pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "livingai.cli", *arguments],
        env=_environment(), cwd=place.folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def save(engine: CheckpointEngine, name: str, count: int = 1) -> None:
    for number in range(count):
        node = ExecutionNode(name, type=NodeType.TOOL, status=Status.SUCCESS)
        receipt = engine.save_sync(node, b"x" * 3000 + b"%d" % number)
    receipt.result(patience(60))


def watching(command: subprocess.Popen[str], engine: CheckpointEngine, name: str) -> str:
    """Save until the command, which has to show executions of that name, has shown the first one;
    its line. Others of them may follow."""

    def seen() -> bool:
        assert command.poll() is None, pipe(command.stderr).read()
        save(engine, name)
        return bool(select.select([pipe(command.stdout)], [], [], 0.05)[0])

    until(seen, what="the first line")
    return pipe(command.stdout).readline()


def lines(command: subprocess.Popen[str], but: str) -> Iterator[dict[str, Any]]:
    """What it prints from now on, without that execution."""
    while True:
        line = json.loads(pipe(command.stdout).readline())
        if line["execution_id"] != but:
            yield line


# -- status --


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """The database takes nothing inside the block."""
    with closing(sqlite3.connect(place.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_status_says_in_its_exit_status_how_it_is(state_dir: Place) -> None:
    with state_dir.service():
        told = run(state_dir, "status", "--json")
        assert told.returncode == 0, told
        found = json.loads(told.stdout)
        assert (found["verdict"], found["service"], found["trouble"]) == ("healthy", "running", "")
        assert found["status"]["pids"]["supervisor"] > 0
        assert found["last"] is None
    told = run(state_dir, "status", "--json")
    assert told.returncode == 3, "none runs"
    found = json.loads(told.stdout)
    assert (found["verdict"], found["service"]) == ("unreachable", "none")
    assert found["status"] is None
    assert found["last"]["ended_at"] > 0


def test_status_of_a_service_whose_store_takes_nothing(state_dir: Place) -> None:
    agent = state_dir.agent()
    with state_dir.service() as service:
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        with locked(state_dir):
            agent.call(acts.save, "run-1", 1)
            until(lambda: service.status().trouble, what="trouble", timeout=60)
            told = run(state_dir, "status", "--json")
            found = json.loads(told.stdout)
            assert (told.returncode, found["verdict"], found["waiting"]) == (1, "trouble", 1)
            assert found["status"]["flow"]["queued"] == 1
            assert found["status"]["flow"]["oldest_s"] > 0
        agent.settled(2)
        assert run(state_dir, "status").returncode == 0
        agent.leave()


def test_status_is_watched_until_it_is_stopped(state_dir: Place) -> None:
    with (
        state_dir.service(),
        running(state_dir, "status", "--json", "--watch", "0.1") as command,
    ):
        looks = [json.loads(pipe(command.stdout).readline()) for _ in range(3)]
        assert [look["verdict"] for look in looks] == ["healthy"] * 3
        command.send_signal(signal.SIGTERM)
        assert ended(command) == 0, "healthy at the last look"
        assert "Traceback" not in pipe(command.stderr).read()


# -- stat --


def test_stat_counts_what_was_saved(state_dir: Place) -> None:
    """The rates of all lines, times their seconds, are what was saved."""
    with (
        state_dir.service() as service, state_dir.engine() as engine,
        running(state_dir, "stat", "--json", "0.2") as command,
    ):  # fmt: skip
        first = json.loads(pipe(command.stdout).readline())
        before = service.status()
        save(engine, "run-1", 200)
        after = service.status()
        assert sum(after.outcomes.values()) - sum(before.outcomes.values()) == 200
        assert after.flow.raw_bytes - before.flow.raw_bytes == sum(
            3000 + len(str(number)) for number in range(200)
        )
        assert 0 < after.flow.stored_bytes - before.flow.stored_bytes < 200 * 3000
        assert 0 < after.flow.commits - before.flow.commits <= 200
        lines = [first]
        while not (lines[-1]["saves"] == 0 and any(line["saves"] for line in lines)):
            lines.append(json.loads(pipe(command.stdout).readline()))
        counted = sum(line["saves"] * line["seconds"] for line in lines)
        assert abs(counted - 200) < 1
        assert {line["service"] for line in lines} == {"running"}


def test_stat_prints_a_head_and_a_line(state_dir: Place) -> None:
    with state_dir.service():
        told = run(state_dir, "stat", "0.1", "2")
    assert told.returncode == 0
    head, units, *rows = told.stdout.splitlines()
    assert head.split()[:4] == ["saves", "met", "late", "other"]
    assert len(units) <= len(head)
    assert len(rows) == 2
    assert all(len(row) == len(head) for row in rows)


# -- tail --


def test_tail_shows_the_outcomes_of_all_agents(state_dir: Place) -> None:
    one, other = state_dir.agent(), state_dir.agent()
    with (
        state_dir.service(), state_dir.engine() as engine,
        running(state_dir, "tail", "--json", "--prefix", "seen-") as command,
    ):  # fmt: skip
        watching(command, engine, "seen-first")
        save(engine, "unseen")
        node = one.call(acts.save, "seen-1", 0, node={"type": "tool"})
        one.settled(1)
        other.call(acts.save, "seen-2", 0)
        other.settled(1)
        save(engine, f"seen-{HOSTILE}")
        found = list(islice(lines(command, "seen-first"), 3))
        assert [line["execution_id"] for line in found] == ["seen-1", "seen-2", f"seen-{HOSTILE}"]
        line = found[0]
        assert (line["node_id"], line["type"], line["status"]) == (node, "tool", "success")
        assert line["outcome"] in ("met", "late")
        assert line["level"] == "store"
        assert line["latency_ms"] > 0
        assert line["record_bytes"] > 128
        command.terminate()
        assert ended(command) == 0
        for agent in (one, other):
            agent.leave()


def test_tail_escapes_what_a_terminal_would_obey(state_dir: Place) -> None:
    with (
        state_dir.service(), state_dir.engine() as engine,
        running(state_dir, "tail", "--prefix", "run", "-n", "1") as command,
    ):  # fmt: skip
        line = watching(command, engine, HOSTILE)
        assert r"run \x1b[2J\u202e" in line
        assert line.rstrip("\n").isprintable()
        assert ended(command) == 0


def test_tail_shows_why_a_record_is_quarantined(state_dir: Place) -> None:
    with (
        state_dir.service(), state_dir.engine() as engine,
        running(state_dir, "tail", "--bad", "--json") as command,
    ):  # fmt: skip
        save(engine, "there is a database")
        with refusing(state_dir.database):
            line = json.loads(watching(command, engine, "run-1"))
        assert (line["outcome"], line["level"]) == ("quarantined", "journal")
        assert "refused by the store" in line["reason"]


def test_tail_goes_on_with_the_next_service(state_dir: Place) -> None:
    with state_dir.service():
        pass
    with running(state_dir, "tail", "--json") as command:
        assert "no service runs" in pipe(command.stderr).readline()
        for number in range(2):
            with state_dir.service(), state_dir.engine() as engine:
                watching(command, engine, f"run-{number}")
            assert "no service runs" in pipe(command.stderr).readline()
        command.send_signal(signal.SIGINT)
        assert ended(command) == 0
        rest = pipe(command.stdout).read().splitlines()
        assert {json.loads(line)["execution_id"] for line in rest} <= {"run-0", "run-1"}


def test_tail_says_that_the_dispatcher_was_killed(state_dir: Place) -> None:
    with (
        state_dir.service(), state_dir.engine() as engine,
        running(state_dir, "tail", "--json") as command,
    ):  # fmt: skip
        watching(command, engine, "run-0")
        kill(state_dir.pids()["dispatcher"])
        assert "not shown" in pipe(command.stderr).readline()
        seen = watching(command, engine, "run-1")
        while json.loads(seen)["execution_id"] != "run-1":
            seen = pipe(command.stdout).readline()


@pytest.mark.parametrize("arguments", [["tail"], ["stat", "0.1"]], ids=lambda a: a[0])
def test_who_looks_on_keeps_no_service_alive(state_dir: Place, arguments: list[str]) -> None:
    """One that agents have started ends although somebody watches."""
    with state_dir.engine() as engine:
        save(engine, "run-1")
        with running(state_dir, *arguments) as command:
            watching(command, engine, "run-2")
            engine.close_sync()
            assert "no service" in pipe(command.stderr).readline()
            command.terminate()
            assert ended(command) == 0
    state_dir.empty()


def test_nobody_who_watches_costs_nothing(state_dir: Place) -> None:
    """Outcomes are noted for a watcher only, and no more of them than the limit."""
    url = state_dir.store().url

    def page(number: int) -> tuple[int, int, int]:
        found = ask_service(state_dir.directory, url, verbs.WATCH, number, 0.0)
        return found.number, found.missed, len(found.outcomes)

    with state_dir.service(), state_dir.engine() as engine:
        save(engine, "run-1", 5)
        assert page(0) == (0, 0, 0), "what came before the first question was not noted"
        save(engine, "run-2", KEPT + 100)
        number, missed, count = page(0)
        assert missed == 100
        assert number == 100 + count
        assert page(KEPT + 100) == (KEPT + 100, 0, 0)


def test_a_question_about_the_future_is_refused(state_dir: Place) -> None:
    with (
        state_dir.service(),
        pytest.raises(Exception, match="yet to come"),
    ):
        ask_service(state_dir.directory, state_dir.store().url, verbs.WATCH, 7, 0.0)


# -- drain --


def test_drain_stores_everything_and_ends_the_service(state_dir: Place) -> None:
    agent = state_dir.agent()
    with state_dir.service() as service:
        writers = [pid for pid in service.status().pids.writers if pid]
        with frozen(writers):
            for step in range(20):
                agent.call(acts.save, "run-1", step)
            agent.kill()
            command = running(state_dir, "drain")
            with command as draining:
                until(lambda: state_dir.ask("status").flow.queued == 20, what="20 records")
                assert draining.poll() is None, "it waits for the store"
                for pid in writers:
                    os.kill(pid, signal.SIGCONT)
                assert ended(draining) == 0
                assert pipe(draining.stdout).read() == "everything is stored\n"
        assert service.wait() == 0
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(20))


def test_drain_gives_up_in_time_and_loses_nothing(state_dir: Place) -> None:
    agent = state_dir.agent()
    with state_dir.service() as service:
        agent.call(acts.save, "run-1", 0)
        agent.settled(1)
        with frozen([pid for pid in service.status().pids.writers if pid]):
            agent.call(acts.save, "run-1", 1)
            told = run(state_dir, "drain", "--timeout", "1")
            assert told.returncode == 1
            assert "1 records are not stored" in told.stderr
            assert "nothing is lost" in told.stderr
            assert "the service goes on" in told.stderr
            assert service.status().pids.supervisor, "it goes on"
        assert agent.settled(2).keys() <= {"met", "late"}
        agent.leave()
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1]


def test_drain_keep_leaves_the_service(state_dir: Place) -> None:
    with state_dir.service() as service:
        assert run(state_dir, "drain", "--keep").stdout == "everything is stored\n"
        assert service.status().pids.supervisor


def test_drain_starts_a_service_for_what_a_kill_left(state_dir: Place) -> None:
    leave_a_record(state_dir, state_dir.database)
    told = run(state_dir, "drain")
    assert (told.returncode, told.stdout) == (0, "everything is stored\n")
    assert "one is started" in told.stderr
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1]
    assert run(state_dir, "drain").returncode == 0, "nothing waits, none runs"


@pytest.mark.parametrize("arguments", [[], ["--keep"]])
def test_drain_keeps_its_time_out_with_a_service_of_its_own(
    state_dir: Place, arguments: list[str]
) -> None:
    """Whatever the settings let a service drain: this one goes with the command. What the database
    does not take waits, and is stored later."""
    leave_a_record(state_dir, state_dir.database)
    settings = state_dir.folder / "livingai.toml"
    settings.write_text('store = "agent.db"\ndrain_s = 3600.0\n')
    with locked(state_dir):
        told = run(state_dir, "drain", "--timeout", "4", *arguments)
        assert told.returncode == 1, told
        assert "no service runs; one is started" in told.stderr
        assert "Traceback" not in told.stderr, told.stderr
        assert "1 records" in told.stderr
        assert "nothing is lost" in told.stderr
        assert state_dir.service_processes() == []
    assert run(state_dir, "drain").returncode == 0
    assert peek.stored_steps(state_dir.database, "run-1") == [0, 1]
