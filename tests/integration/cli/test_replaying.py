"""`livingai replay` on a run that really was: its tools write into a file, which is the world."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import environment
from tests.support.held import held
from tests.support.patience import patience
from tests.support.place import Place

PROGRAM = """
import sys
from pathlib import Path

def ask_shop():
    with Path("world").open("a") as file:
        file.write("asked\\n")
    return ["1040", "980"]

def pay(price):
    with Path("world").open("a") as file:
        file.write(f"paid {price}\\n")
    return {"paid": price}

def agent(run, choose=min):
    prices = run.tool("ask_shop", ask_shop)
    best = run.step("choose", choose, prices)
    run.state = {"best": best}
    run.checkpoint()
    return run.tool("pay", pay, price=best)

def corrected(run):
    return agent(run, lambda prices: min(prices, key=int))

async def concurrently(run):
    return await run.tool("ask_shop", ask_shop)

def talkative(run):
    print("thinking")
    return agent(run)

number = 3
if __name__ == "__main__":
    from livingai import CheckpointEngine, SQLiteStore
    with CheckpointEngine(SQLiteStore("agent.db")) as engine:
        with engine.run_sync("run-1") as run:
            agent(run)
"""


def ran(place: Place, *arguments: str) -> tuple[int, str, str]:
    """Exit status, output and error text."""
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments],
        env={**environment(), "LIVINGAI_STORE": "agent.db"}, cwd=place.folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def world(place: Place) -> list[str]:
    """What really happened."""
    return Path(place.folder, "world").read_text().splitlines()


@pytest.fixture
def recorded(state_dir: Place) -> Place:
    (state_dir.folder / "shop.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "shop.py"], env=environment(), cwd=state_dir.folder, capture_output=True,
        text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert world(state_dir) == ["asked", "paid 1040"]
    return state_dir


def lines(out: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The nodes and the result of a replay with ``--json``."""
    *nodes, last = map(json.loads, out.splitlines())
    return [node["node"] for node in nodes], last["replay"]


def test_the_same_program_and_a_corrected_one(recorded: Place) -> None:
    before = held(str(recorded.database))["run-1"]
    status, out, err = ran(recorded, "replay", "run-1", "--program", "shop:agent")
    assert (status, err) == (0, "")
    assert "same: " in out
    assert "first divergence" not in out
    status, out, err = ran(recorded, "replay", "run-1", "--program", "shop:corrected")
    assert (status, err) == (1, "")
    assert "first divergence: changed prompt choose" in out
    status, out, _ = ran(
        recorded, "replay", "run-1", "--program", "shop:corrected", "--json", "--as", "better"
    )
    nodes, result = lines(out)
    assert status == 1
    assert (result["run"], result["of"], result["mode"]) == ("better", "run-1", "mock_tools")
    assert result["same"] is False
    assert result["counts"] | {"same": 0} == {"same": 0, "changed": 2, "new": 0, "missing": 0}
    assert result["first"]["differences"] == [
        {"path": "output", "recorded": "1040", "replayed": "980"}
    ]
    assert [node["name"] for node in nodes if node["change"] == "changed"] == ["choose", "pay"]
    assert world(recorded) == ["asked", "paid 1040"], "no tool was called"
    assert ran(recorded, "state", "better")[1].split() == ["{", '"best":', '"980"', "}"]
    after = held(str(recorded.database))
    assert after["run-1"] == before
    status, _, err = ran(recorded, "replay", "run-1", "--program", "shop:agent", "--as", "better")
    assert (status, "already" in err) == (2, True)


def test_the_four_modes_ask_before_a_tool_is_called(recorded: Place) -> None:
    program = ("replay", "run-1", "--program", "shop:agent")
    for arguments in (
        ("--mode", "full"),
        ("--set", "choose=980"),
        ("--from", "ask_shop", "--allow-side-effects"),
        ("--mode", "full", "--allow-side-effects"),
    ):
        status, out, err = ran(recorded, *program, *arguments)
        assert status in (1, 2), (arguments, out)
        assert "allow_side_effects" in err + out or "add --yes" in err, err + out
        assert world(recorded) == ["asked", "paid 1040"], arguments
    status, out, _ = ran(
        recorded, *program, "--set", 'choose="980"', "--allow-side-effects", "--yes", "--json"
    )
    nodes, result = lines(out)
    assert (status, result["mode"]) == (1, "counterfactual")
    assert result["output"] == {"paid": "980"}
    assert [node["change"] for node in nodes if node["name"] == "ask_shop"] == ["same"]
    assert world(recorded) == ["asked", "paid 1040", "paid 980"], "ask_shop was served"
    again = (*program, "--from", "pay", "--allow-side-effects")
    status, _, err = ran(recorded, *again)
    assert (status, 'pay {"args":[],"kwargs":{"price":"1040"}}' in err) == (2, True), err
    assert "ask_shop" not in err, "it would be served"
    assert ran(recorded, *again, "--yes")[0] == 0
    assert world(recorded)[3:] == ["paid 1040"]
    assert ran(recorded, *program, "--mode", "full", "--allow-side-effects", "--yes")[0] == 0
    assert world(recorded)[4:] == ["asked", "paid 1040"]


def test_what_would_run(recorded: Place) -> None:
    """Without a program nothing is called or written."""
    before = held(str(recorded.database))

    def plan(*arguments: str) -> dict[str, tuple[str, bool]]:
        status, out, err = ran(recorded, "replay", "run-1", "--json", *arguments)
        assert (status, err) == (0, "")
        found = map(json.loads, out.splitlines())
        return {each["name"]: (each["how"], each["needs_consent"]) for each in found}

    assert plan()["choose"] == ("run", False)
    assert plan()["pay"] == ("served", False)
    assert plan("--from", "choose")["ask_shop"] == ("served", False)
    assert plan("--from", "choose")["pay"] == ("run", True)
    assert plan("--mode", "full")["ask_shop"] == ("run", True)
    assert plan("--set", "choose=1")["choose"] == ("replaced", False)
    status, out, _ = ran(recorded, "replay", "run-1", "--mode", "full")
    assert (status, out.count("needs --allow-side-effects")) == (0, 2)
    assert held(str(recorded.database)) == before
    assert world(recorded) == ["asked", "paid 1040"]


def test_mistakes(recorded: Place) -> None:
    (recorded.folder / "broken.py").write_text("1 / 0")
    for arguments, expected, says in (
        (("nobody",), 1, "nobody"),
        (("run-1", "--from", "nowhere"), 1, "nowhere"),
        (("run-1", "--mode", "from_node"), 2, "node_id"),
        (("run-1", "--mode", "full", "--from", "pay"), 2, "takes no node_id"),
        (("run-1", "--set", "pay"), 2, "--set"),
        (("run-1", "--set", "pay=text"), 2, "--set"),
        (("run-1", "--set", "pay=NaN"), 2, "--set"),
        (("run-1", "--set", "pay=1", "--set", "pay=2"), 2, "set twice"),
        (("run-1", "--program", "shop"), 2, "MODULE:NAME"),
        (("run-1", "--program", "broken:agent"), 2, "ZeroDivisionError"),
        (("run-1", "--program", "none:agent"), 2, "cannot be imported"),
        (("run-1", "--program", "shop:nothing"), 2, "cannot be imported"),
        (("run-1", "--program", "shop:number"), 2, "no function"),
    ):
        status, out, err = ran(recorded, "replay", *arguments)
        assert (status, out) == (expected, ""), (arguments, err)
        assert says in err, (arguments, err)
    assert sorted(held(str(recorded.database))) == ["costs", "run-1"]


def test_what_the_program_prints_is_not_in_the_json(recorded: Place) -> None:
    status, out, err = ran(recorded, "replay", "run-1", "--program", "shop:talkative", "--json")
    nodes, result = lines(out)
    assert (status, err) == (0, "thinking\n")
    assert nodes
    assert result["same"]


@pytest.mark.parametrize("option", ["--set", "--set-input"])
def test_from_and_set_are_not_both(recorded: Place, option: str) -> None:
    status, out, err = ran(recorded, "replay", "run-1", "--from", "pay", option, "choose=1")
    assert (status, out) == (2, "")
    assert "not both" in err


def test_an_asynchronous_program(recorded: Place) -> None:
    status, out, err = ran(recorded, "replay", "run-1", "--program", "shop:concurrently", "--json")
    nodes, result = lines(out)
    assert (status, err) == (1, "")
    assert nodes[0]["change"] == "same"
    assert result["counts"]["missing"] >= 2
    assert world(recorded) == ["asked", "paid 1040"]


GO_ON = """
import shop, sys
from livingai import CheckpointEngine, SQLiteStore
with CheckpointEngine(SQLiteStore("agent.db")) as engine:
    with engine.run_sync(sys.argv[1]) as run:
        print(shop.corrected(run))
"""


def test_a_fork_from_a_node_goes_on_with_another_program(recorded: Place) -> None:
    before = held(str(recorded.database))["run-1"]
    for _ in range(2):  # asked again, it is there
        status, out, err = ran(recorded, "fork", "run-1", "--from", "choose", "--as", "other")
        assert (status, err) == (0, ""), err
        assert "as they were before" in out
    listed = json.loads(ran(recorded, "list", "--prefix", "other", "--json")[1])
    assert (listed["status"], listed["checkpoints"]) == ("running", 0)
    done = subprocess.run(
        [sys.executable, "-c", GO_ON, "other"], env=environment(PYTHONPATH=str(recorded.folder)),
        cwd=recorded.folder, capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "{'paid': '980'}\n"), done.stderr
    assert world(recorded) == ["asked", "paid 1040", "paid 980"], "the shop was not asked again"
    assert held(str(recorded.database))["run-1"] == before
    assert ran(recorded, "diff", "run-1", "other")[1] == "best: '1040' -> '980'\n"
    status, _, err = ran(recorded, "fork", "run-1", "--from", "pay", "--as", "other")
    assert (status, "other runs under the same ids" in err) == (1, True)
    assert ran(recorded, "fork", "run-1", "--from", "nowhere", "--as", "x")[0] == 1
    assert ran(recorded, "fork", "nobody", "--from", "pay", "--as", "x")[0] == 1
    assert ran(recorded, "check", "--store", "agent.db")[0] == 0
