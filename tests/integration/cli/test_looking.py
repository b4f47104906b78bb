"""`livingai list`, `show`, `state` and `diff`: what a person sees, what a program reads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from livingai import CheckpointEngine, ErrorInfo, ExecutionNode, NodeType, Status
from tests.support import acts
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen, kill

#: What a terminal would obey: an escape sequence, a mark that turns text round, a second line.
HOSTILE = "run \x1b[2J\u202e\nx"


def looked(place: Place, *arguments: str, columns: int | None = None) -> tuple[int, str, str]:
    """Exit status and output of a command that finds the store in its environment."""
    env = {**environment(), "LIVINGAI_STORE": "agent.db", "TZ": "UTC"}
    env.pop("COLUMNS", None)
    if columns is not None:
        env["COLUMNS"] = str(columns)
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments], env=env, cwd=place.folder,
        capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def lines(place: Place, *arguments: str) -> list[dict[str, Any]]:
    """What a command prints with ``--json``."""
    status, out, err = looked(place, *arguments, "--json")
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def node(run: str, name: str, **fields: Any) -> ExecutionNode:
    fields.setdefault("status", Status.SUCCESS)
    metadata = {"name": name, **fields.pop("metadata", {})}
    return ExecutionNode(run, id=f"{run}/{name}", metadata=metadata, **fields)


def fill(engine: CheckpointEngine) -> None:
    """A few runs, all of them stored."""
    engine.save_sync(node("chat", "plan", cost_tokens=12, latency_ms=1500.0), {"step": 1})
    charge = node("chat", "charge", type=NodeType.TOOL, parent_id="chat/plan", latency_ms=20.0)
    engine.save_sync(charge)
    left = node("chat", "left", parent_id="chat/plan")
    right = node("chat", "right", type=NodeType.TOOL, parent_id="chat/plan",
                 status=Status.RUNNING)  # fmt: skip
    engine.save_sync(left, {"step": 2, "notes": ["a"]})
    engine.save_sync(right)
    error = ErrorInfo("ValueError", "no such city")
    metadata = {"tenant": "t1", "zip": "007", "size": "nan", "floor": -15.0}
    failed = node("weather", "ask", status=Status.FAILED, error=error, metadata=metadata)
    engine.save_sync(failed, {"step": 1, "notes": ["b"]})
    engine.save_sync(node(HOSTILE, "only"), b"\x00\xff" * 10)
    for number in range(3):
        engine.save_sync(node(f"z{number}", "n"), b"x" * number)
    engine.flush_sync()


@pytest.fixture(scope="module")
def filled(served_dir: Place) -> Place:
    """Shared by the tests of this module, which only look."""
    with served_dir.engine() as engine:
        fill(engine)
    return served_dir


GOLDEN_LIST = """\
RUN                    STATUS   NODES  STATES  STORED  UPDATED  TOOK  ERROR
chat                   running      4       2   33 B  TIME
run \\x1b[2J\\u202e\\x0ax  success      1       1   21 B  TIME
weather                failed       1       1   24 B  TIME           ValueError: no such city
z0                     success      1       1    1 B  TIME
"""


def masked(text: str) -> str:
    """Without what differs from run to run: times, sizes on disk, spaces."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r" \d+ B", " N B", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_listing(filled: Place) -> None:
    status, out, err = looked(filled, "list", "-n", "4")
    assert (status, masked(out)) == (0, masked(GOLDEN_LIST))
    assert err == "there are more: --after 'z0', or --limit N\n"
    status, out, err = looked(filled, "list", "--after", "z1")
    assert (status, [line.split()[0] for line in out.splitlines()], err) == (0, ["RUN", "z2"], "")
    for columns in (80, 200):
        _, out, _ = looked(filled, "list", columns=columns)
        assert all(len(line) <= columns for line in out.splitlines())
        assert ("no such city" in out) == (columns == 200)
    assert "…" in looked(filled, "list", columns=80)[1]


def test_listing_for_programs(filled: Place) -> None:
    found = lines(filled, "list")
    assert [run["execution_id"] for run in found] == sorted(
        ["chat", "weather", HOSTILE, "z0", "z1", "z2"]
    )
    weather = next(run for run in found if run["execution_id"] == "weather")
    assert (weather["status"], weather["nodes"], weather["checkpoints"]) == ("failed", 1, 1)
    assert weather["error"] == "ValueError: no such city"
    assert not looked(filled, "list", "--json")[1].count("\x1b")


FILTERS = [
    (["--status", "failed"], ["weather"]),
    (["--prefix", "z"], ["z0", "z1", "z2"]),
    (["--query", "NO SUCH"], ["weather"]),
    (["--query", "z1"], ["z1"]),
    (["--meta", "tenant=t1"], ["weather"]),
    (["--meta", "tenant=t2"], []),
    (["--meta", "zip=007"], ["weather"]),
    (["--meta", "size=nan"], ["weather"]),
    (["--meta", "floor=-1.5e1"], ["weather"]),
    (["--before", "2001-01-01"], []),
    (["--since", "2h", "--prefix", "c"], ["chat"]),
    (["--sort", "nodes", "-n", "1"], ["chat"]),
    (["--sort", "created", "--prefix", "z"], ["z2", "z1", "z0"]),
    (["--sort", "created", "--reverse", "-n", "1"], ["chat"]),
    (["--sort", "updated", "--all", "--prefix", "z"], ["z2", "z1", "z0"]),
]


def test_what_is_asked_for_is_listed(filled: Place) -> None:
    for arguments, expected in FILTERS:
        found = [run["execution_id"] for run in lines(filled, "list", *arguments)]
        assert found == expected, arguments


GOLDEN_SHOW = """\
run     chat
status  running
saved   TIME to TIME
owners  1 (epoch 1 is the newest)
nodes   4, 12 tokens
states  2, N B stored

STEP      STATUS   TYPE      TOOK  TOKENS  STATE  NOTES                      NODE
plan      success  prompt   1.5 s      12   N B                             chat/plan
  charge  success  tool     20 ms                  side effect               chat/charge
  left    success  prompt                   N B                             chat/left
  right   running  tool                            in doubt: begun, no result  chat/right
"""


def test_a_run_is_shown(filled: Place) -> None:
    status, out, _ = looked(filled, "show", "chat")
    assert (status, masked(out)) == (0, masked(GOLDEN_SHOW))
    plan = next(line for line in out.splitlines() if line.startswith("plan"))
    assert next(line for line in out.splitlines() if line.startswith("  charge"))
    assert plan.index("chat/plan") == out.splitlines()[7].index("NODE")
    status, out, _ = looked(filled, "show", "weather", columns=80)
    assert max(map(len, out.splitlines())) <= 80
    status, out, _ = looked(filled, "show", HOSTILE)
    assert status == 0
    assert not {"\x1b", "\u202e"} & set(out)


def test_a_run_is_shown_to_programs(filled: Place) -> None:
    first, *nodes = lines(filled, "show", "chat")
    assert first["run"]["execution_id"] == "chat"
    found = {each["node"]["name"]: each["node"] for each in nodes}
    assert list(found) == ["plan", "charge", "left", "right"]
    assert found["right"]["notes"] == "in doubt: begun, no result"
    assert (found["left"]["parent_id"], found["left"]["state_bytes"]) == ("chat/plan", 16)
    assert found["charge"]["state_bytes"] is None


def test_values_of_a_run(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        saved = node("values", "one", input={"city": "Berlin\x07"}, output=[1, 2])
        engine.save_sync(saved).result(patience(60))
    status, out, _ = looked(state_dir, "show", "values", "--values")
    assert status == 0
    assert '  input  {"city":"Berlin\\u0007"}' in out
    assert "  output [1,2]" in out


#: Characters that JSON may have and a terminal obeys, in and beyond the first 65,536.
CONTROLS = "soft\xad del\x7f csi\x9b[2J round\u202e \U000e0041 \u2028 \ttab"


def test_hostile_values_of_a_run(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        saved = node(f"x{HOSTILE}", CONTROLS, input={CONTROLS: [CONTROLS]})
        engine.save_sync(saved, {"text": CONTROLS, CONTROLS: ["é", 1.5]}).result(patience(60))
    status, out, _ = looked(state_dir, "show", f"x{HOSTILE}", "--values")
    assert status == 0
    assert not set(CONTROLS + HOSTILE) & set(map(chr, range(0x7F, 0x110000))) & set(out)
    assert "\x1b" not in out
    status, out, _ = looked(state_dir, "state", f"x{HOSTILE}")
    assert status == 0
    assert not {"\x1b", *"\xad\x7f\x9b\u202e\U000e0041\u2028\t"} & set(out)
    assert json.loads(out) == {"text": CONTROLS, CONTROLS: ["é", 1.5]}


def test_the_next_page_of_hostile_ids(state_dir: Place) -> None:
    """What is shown for the next page can be given to a shell."""
    ids = ["a'; touch owned; '", "b\x1b[2J$(touch owned)\\'", "c"]
    with state_dir.engine() as engine:
        for run in ids:
            engine.save_sync(node(run, "n"))
    for at, run in enumerate(ids[:2]):
        _, _, err = looked(state_dir, "list", "-n", str(at + 1))
        word = err.partition("--after ")[2].rpartition(", or --limit")[0]
        assert "\x1b" not in err
        told = subprocess.run(
            ["bash", "-c", f'printf "%s" {word}'], cwd=state_dir.folder, capture_output=True,
            text=True, check=True, timeout=patience(60),
        )  # fmt: skip
        assert told.stdout == run
    assert not (state_dir.folder / "owned").exists()


CLOSED = [["list"], ["list", "--json"], ["show", "chat", "--values"], ["state", HOSTILE, "--raw"],
          ["state", "chat"], ["recover"]]  # fmt: skip


@pytest.mark.parametrize("to", ["&-", "/dev/full"])
def test_output_that_goes_nowhere(filled: Place, to: str) -> None:
    for arguments in CLOSED:
        told = subprocess.run(
            ["sh", "-c", f'"$0" -m livingai.cli "$@" >{to}', sys.executable, *arguments,
             "-s", "agent.db"],
            env=environment(), cwd=filled.folder, stderr=subprocess.PIPE, text=True, check=False,
            timeout=patience(60),
        )  # fmt: skip
        assert "Traceback" not in told.stderr, told.stderr
        if to == "/dev/full":
            assert (told.returncode, "no space left" in told.stderr) == (1, True), arguments


def test_states(filled: Place) -> None:
    def state(*arguments: str) -> Any:
        status, out, err = looked(filled, "state", *arguments)
        assert status == 0, err
        return json.loads(out)

    assert state("chat") == {"step": 2, "notes": ["a"]}
    assert state("chat", "--at", "chat/charge") == {"step": 1}
    (told,) = lines(filled, "state", "chat", "--at", "chat/plan")
    assert told == {"run": "chat", "node": "chat/plan", "state": {"step": 1}}
    assert state(HOSTILE) == "<20 bytes>"
    raw = subprocess.run(
        [sys.executable, "-m", "livingai.cli", "state", HOSTILE, "--raw", "-s", "agent.db"],
        env=environment(), cwd=filled.folder, capture_output=True, check=True,
        timeout=patience(60),
    )  # fmt: skip
    assert raw.stdout == b"\x00\xff" * 10


def test_differences(filled: Place) -> None:
    status, out, _ = looked(filled, "diff", "chat", "weather")
    assert (status, out) == (1, "step: 2 -> 1\nnotes[0]: 'a' -> 'b'\n")
    assert looked(filled, "diff", "chat@chat/left", "chat") == (0, "", "")
    status, out, _ = looked(filled, "diff", "chat@chat/plan", "weather", "--json")
    assert status == 1
    assert json.loads(out) == {"path": "notes", "other": ["b"]}, "one side has nothing there"


MISTAKES = [
    (["show", "nope"], 1, "no execution 'nope'"),
    (["state", "nope"], 1, "no execution 'nope'"),
    (["state", "chat", "--at", "nope"], 1, "has no node 'nope'"),
    (["state", "chat", "--raw"], 1, "not bytes"),
    (["diff", "chat", "chat@nope"], 1, "has no node 'nope'"),
    (["list", "--since", "yesterday"], 2, "is no age"),
    (["list", "--meta", "tenant"], 2, "is not KEY=VALUE"),
    (["list", "--sort", "size"], 2, "is not one of"),
    (["list", "--reverse"], 2, "--reverse needs --sort"),
    (["list", "--limit", "0"], 2, "limit"),
    (["list", "-s", "nope.db"], 3, "there is no database"),
    (["resolve", "-s", "nope.db", "chat", "right", "--retry", "--yes"], 3, "there is no database"),
    (["list", "-s", "other.db"], 4, "is not an SQLite database"),
]


def test_mistakes_have_a_status_and_one_sentence(filled: Place) -> None:
    (filled.folder / "other.db").write_bytes(b"another program's file\n" * 500)
    for arguments, expected, says in MISTAKES:
        status, out, err = looked(filled, *arguments)
        assert (status, out) == (expected, ""), (arguments, err)
        assert says in err, arguments
    assert not (filled.folder / "nope.db").exists()


def test_what_waits_in_the_journals_is_shown(state_dir: Place) -> None:
    """Where no service runs; one is started for it."""
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    service = state_dir.service_processes()
    with frozen(service):
        agent.call(acts.save, "run-1", 1)
        agent.kill()
        kill(*service)
    state_dir.kill_service()
    state_dir.service_killed = True
    assert [each["nodes"] for each in lines(state_dir, "list")] == [2]


def test_looking_starts_nothing_where_all_is_stored(state_dir: Place) -> None:
    with state_dir.engine() as engine:
        fill(engine)
    state_dir.empty()
    before = sorted(os.listdir(state_dir.folder))
    assert len(lines(state_dir, "list")) == 6
    assert looked(state_dir, "show", "chat")[0] == 0
    assert state_dir.service_processes() == []
    assert sorted(os.listdir(state_dir.folder)) == before


def test_a_service_and_the_store_say_the_same(state_dir: Place) -> None:
    asked = [
        ["list"], ["list", "--sort", "updated"], ["show", "chat", "--values"], ["state", "chat"],
        ["state", "chat", "--at", "chat/plan"], ["diff", "chat", "weather"],
        ["recover"], ["recover", "chat"],
    ]  # fmt: skip
    with state_dir.service(), state_dir.engine() as engine:
        fill(engine)
        told = [looked(state_dir, *arguments) for arguments in asked]
    assert "chat/right" in told[-1][1]
    state_dir.empty()
    assert state_dir.service_processes() == []
    for arguments, before in zip(asked, told, strict=True):
        assert looked(state_dir, *arguments) == before


def test_a_service_that_does_not_answer(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with frozen([state_dir.pids()["dispatcher"]]):
        status, _, err = looked(state_dir, "list")
    assert status == 3
    assert "no service answers" in err


def test_a_run_is_followed_to_its_end(state_dir: Place) -> None:
    """What is saved while somebody looks comes as it is saved; the run's end ends it."""
    with state_dir.engine() as engine:
        run = engine.run_sync("followed")
        with run:
            run.step("one", lambda: 1)
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "livingai.cli", "show", "followed", "-f",
                 "-s", "agent.db"],
                env=environment(), cwd=state_dir.folder, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("one"):
                    break
            run.step("two", lambda: 2)
        rest = process.stdout.read()
        assert process.wait(patience(60)) == 0
        process.stdout.close()
    assert "two" in rest
    assert "success" in rest
