"""`livingai recover` and `resolve`, on runs whose process was really killed in a tool."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from livingai import (
    CheckpointEngine,
    ExecutionNode,
    NodeType,
    RecoveryEngine,
    SQLiteStore,
    Status,
)
from livingai.cli.exit_status import CommandError
from livingai.cli.recovering import _settle
from livingai.runs.policy import Resolution
from tests.support import acts
from tests.support.agents import environment
from tests.support.kill_matrix import Cell, run
from tests.support.patience import patience
from tests.support.place import Place

#: A program that charges a card: its file of charges is the outside world.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from livingai import CheckpointEngine, SQLiteStore

def plan(what):
    return ["charge", what]

def charge(amount):
    with Path("charges").open("a") as file:
        file.write(f"{amount}\\n")
    if sys.argv[1:] == ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"charged": amount}

with CheckpointEngine(SQLiteStore("agent.db")) as engine:
    with engine.run_sync("order-1") as run:
        steps = run.step("plan", plan, what="card")
        result = run.tool("charge", charge, amount=5)
        print("result:", result)
"""


def command(place: Place, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and error text."""
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments],
        env={**environment(), "LIVINGAI_STORE": "agent.db"}, cwd=place.folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def program(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program once."""
    path = place.folder / "program.py"
    path.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(path), *arguments], env=environment(), cwd=place.folder,
        capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip


def charges(place: Place) -> int:
    """How often the card was charged."""
    return len(Path(place.folder, "charges").read_text().splitlines())


@pytest.fixture
def killed(state_dir: Place) -> Place:
    """A run that was killed in its tool, behind the charge."""
    assert program(state_dir, "die").returncode == -signal.SIGKILL
    assert charges(state_dir) == 1
    return state_dir


def test_a_plan_names_what_is_in_doubt(killed: Place) -> None:
    status, out, err = command(killed, "recover", "order-1")
    assert status == 1, err
    assert "resumes at the beginning" in out
    assert 'charge {"args":[],"kwargs":{"amount":5}}' in out
    assert "in doubt" in out
    status, out, _ = command(killed, "recover", "--json")
    plan: dict[str, Any] = json.loads(out)
    assert status == 1
    assert (plan["run"], plan["status"], len(plan["in_doubt"])) == ("order-1", "running", 1)
    assert len(plan["again"]) == 1, "the plan may be made again"
    assert "order-1" in command(killed, "recover")[1]
    assert command(killed, "recover", "--prefix", "other") == (0, "", "no run is unfinished\n")


def resumed(place: Place) -> str:
    """What the program prints as it is run again."""
    done = program(place)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_done(killed: Place) -> None:
    status, out, err = command(
        killed, "resolve", "order-1", "charge", "--done", '{"charged": 7}', "--yes"
    )
    assert status == 0, err
    assert out.startswith("settled charge")
    assert resumed(killed) == "result: {'charged': 7}\n"
    assert charges(killed) == 1
    assert command(killed, "recover") == (0, "", "no run is unfinished\n")


def test_retry(killed: Place) -> None:
    assert command(killed, "resolve", "order-1", "charge", "--retry", "--yes")[0] == 0
    status, out, _ = command(killed, "recover", "order-1")
    assert status == 0
    assert "was not begun" in out
    assert resumed(killed) == "result: {'charged': 5}\n"
    assert charges(killed) == 2, "somebody said that it had not happened"


def test_give_up(killed: Place) -> None:
    assert command(killed, "resolve", "order-1", "1", "--give-up", "refunded", "--yes")[0] == 0
    done = program(killed)
    assert done.returncode == 1
    assert "refunded" in done.stderr
    assert charges(killed) == 1


def test_what_resolve_refuses(killed: Place) -> None:
    for arguments, expected, says in (
        (["order-1", "charge", "--retry"], 2, "add --yes"),
        (["order-1", "charge", "--yes"], 2, "say what came of it"),
        (["order-1", "charge", "--yes", "--retry", "--done", "1"], 2, "say what came of it"),
        (["order-1", "charge", "--yes", "--done", "text"], 2, "is no JSON"),
        (["order-1", "plan", "--yes", "--retry"], 1, "no call 'plan' in doubt"),
        (["order-2", "charge", "--yes", "--retry"], 1, "there is no run 'order-2'"),
    ):
        status, out, err = command(killed, "resolve", *arguments)
        assert (status, out) == (expected, ""), arguments
        assert says in err
    assert command(killed, "resolve", "order-1", "charge", "--done", "null", "--yes")[0] == 0
    status, _, err = command(killed, "resolve", "order-1", "charge", "--retry", "--yes")
    assert status == 1
    assert "no call 'charge' in doubt" in err


def test_a_takeover_meanwhile_settles_nothing(killed: Place) -> None:
    """What :func:`resolve` saves is fenced: it must not say that it has decided."""
    other = killed.agent()
    with killed.engine() as engine:

        class Overtaken(CheckpointEngine):
            def history_sync(self, execution_id: str, **settings: Any) -> Any:
                found = super().history_sync(execution_id, **settings)
                other.call(acts.claim, execution_id)
                return found

        (node,) = RecoveryEngine(engine).plan_sync("order-1").in_doubt_nodes
        with (
            Overtaken(SQLiteStore(str(killed.database))) as overtaken,
            pytest.raises(CommandError, match="nothing was settled"),
        ):
            _settle(overtaken, node, Resolution.retry())
        (still,) = RecoveryEngine(engine).plan_sync("order-1").in_doubt_nodes
        assert still == node


def test_what_cannot_be_recorded_takes_nothing_over(killed: Place) -> None:
    def epoch() -> int:
        return int(json.loads(command(killed, "list", "--json")[1])["epoch"])

    before = epoch()
    for value in ("NaN", "[" * 100_000):
        status, _, err = command(killed, "resolve", "order-1", "1", "--done", value, "--yes")
        assert status == 2
        assert "--done" in err
    assert epoch() == before


def own_nodes(place: Place, run: str) -> ExecutionNode:
    """A program that records its own nodes was killed in a tool, while another one ended."""
    charge = ExecutionNode(run, NodeType.TOOL, Status.RUNNING, metadata={"name": "charge"})
    with place.engine() as engine:
        engine.save_sync(charge)
        engine.save_sync(ExecutionNode(run, status=Status.SUCCESS), {"step": 1})
        engine.flush_sync()
    return charge


def test_a_program_that_records_its_own_nodes(state_dir: Place) -> None:
    """Its status is that of its newest node, and yet it is not overlooked; and a retry that was
    decided is a retry."""
    charge = own_nodes(state_dir, "own")
    status, out, err = command(state_dir, "recover", "--json")
    assert (status, err) == (1, "")
    assert json.loads(out)["in_doubt"] == [charge.id]
    assert command(state_dir, "resolve", "own", "charge", "--retry", "--yes")[0] == 0
    called = []

    def handler(node: ExecutionNode) -> str:
        called.append(node.id)
        return "charged"

    with state_dir.engine() as engine:
        recovery = RecoveryEngine(engine).replay_sync("own", handler)
        assert called == [charge.id]
        assert recovery.outputs[charge.id] == "charged"
        assert [node.id for node in recovery.retry_nodes] == [charge.id]
    assert command(state_dir, "recover", "own")[0] == 0
    with state_dir.engine() as engine:
        RecoveryEngine(engine).replay_sync("own", handler)
    assert called == [charge.id], "it is called once"


@pytest.mark.damaged("execution-damaged")
def test_what_is_damaged_is_not_passed_over(state_dir: Place) -> None:
    own_nodes(state_dir, "own")
    state_dir.empty()
    with closing(sqlite3.connect(state_dir.database)) as database, database:
        database.execute("UPDATE executions SET nodes = 'many'")
    status, out, err = command(state_dir, "recover")
    assert (status, out) == (4, "")
    assert "own is damaged" in err


@pytest.mark.parametrize("name", ["resolve.after_claim", "resolve.after_save"])
def test_a_decision_that_is_killed(state_dir: Place, name: str) -> None:
    """Between its claim and its save nothing is settled; behind the save it counts."""
    run(Cell(name, "command", "kill", 1), state_dir)
