"""`livingai check` as a user meets it: options, exit statuses, and what it prints."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from livingai.inspection.findings import FINDINGS
from livingai.queue.layout import CURSOR_BYTES
from livingai.queue.segment import segment_name
from tests.support import acts
from tests.support.agents import environment
from tests.support.journals import flip_in_record, records
from tests.support.odd import put_odd
from tests.support.place import Place
from tests.support.places import command, leave_a_record, move_database
from tests.support.waiting import frozen, gone, kill, until

Told = CompletedProcess[str]


@pytest.fixture
def left(state_dir: Place) -> Place:
    """Two steps are stored, another one waits, and no process is left."""
    leave_a_record(state_dir, state_dir.database)
    return state_dir


def check(place: Place, *arguments: str | Path) -> Told:
    return command(place, "check", "agent.db", *arguments)


def test_nothing_is_wrong(left: Place) -> None:
    told = check(left)
    assert (told.returncode, told.stderr) == (0, "")
    told = check(left, "--store", "agent.db")
    assert (told.returncode, told.stderr) == (0, "")
    assert "1 executions in the store, 1 nodes, 1 states, 1 outcomes compared" in told.stdout
    told = check(left, "--store", left.store().url, "--json")
    report = json.loads(told.stdout)
    assert report["ok"]
    assert report["path"] == left.directory.path
    assert (report["counts"]["compared"], report["counts"]["waiting"]) == (1, 1)
    assert all(finding["severity"] == "notice" for finding in report["findings"])


def test_damage_is_found_and_repaired(left: Place) -> None:
    """The waiting record is damaged: what it was cannot be had, and that is said."""
    (journal,) = left.journals()
    flip_in_record(journal, records(journal)[-1], 4)
    told = check(left, "--json")
    assert told.returncode == 1
    (finding,) = (f for f in json.loads(told.stdout)["findings"] if f["severity"] == "error")
    assert finding["code"] == "record-missing"
    assert (finding["loss"], finding["where"]) == ("lost", f"journals/{Path(journal).name}")
    assert finding["repair"] == FINDINGS[finding["code"]].repair
    told = check(left, "--repair")
    assert told.returncode == 1, "something is lost"
    assert told.stdout.startswith(f"repaired: journals/{Path(journal).name}: record 2 is damaged")
    assert "\nok: " in told.stdout
    told = check(left, "--repair", "--json")
    assert told.returncode == 0
    assert json.loads(told.stdout)["repaired"] == {"lost": False, "done": []}
    with left.service():
        left.ask("drain")


def test_a_repair_that_fails_says_what_it_has_done(left: Place) -> None:
    """No file can be made: the odd segment is moved, and then there is no room for a cursor."""
    (journal,) = left.journals()
    put_odd("directory", Path(journal, segment_name(99)))
    Path(journal, "cursor").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CURSOR_BYTES - 1, hard))
    try:
        told = check(left, "--repair")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told.returncode == 2
    assert told.stdout.startswith(f"repaired: journals/{Path(journal).name}/{segment_name(99)}: ")
    assert len(told.stdout.splitlines()) == 1
    assert "Error: OSError: [Errno 27] File too large" in told.stderr
    assert "Traceback" not in told.stderr
    again = check(left, "--repair", "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["repaired"]["done"]


def test_an_interrupted_repair_says_what_it_has_done(left: Place) -> None:
    """Ctrl-C, while something is moved; and another repair meanwhile."""
    (journal,) = left.journals()
    odd = [Path(journal, segment_name(number)) for number in (98, 99)]
    for path in odd:
        put_odd("directory", path)
    tokens = left.folder / "tokens"
    tokens.mkdir()
    env = environment(
        LIVINGAI_FAILPOINTS="repair.before_move=pause:60*2", LIVINGAI_FAILPOINT_TOKENS=str(tokens)
    )
    repair = subprocess.Popen(
        [sys.executable, "-m", "livingai", "check", "agent.db", "--repair"],
        cwd=left.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until(lambda: any(tokens.iterdir()), what="the repair")
        told = check(left, "--repair", "--json")
        assert told.returncode == 2
        assert "another repair" in json.loads(told.stdout)["error"]
        assert json.loads(told.stdout)["repaired"]["done"] == []
        repair.send_signal(signal.SIGINT)
        out, err = repair.communicate(timeout=60)
    finally:
        repair.kill()
    assert repair.returncode == 2
    assert out.startswith(f"repaired: journals/{Path(journal).name}/{odd[0].name}: moved to")
    assert len(out.splitlines()) == 1
    assert "interrupted" in err
    assert check(left, "--repair").returncode == 0


def test_a_directory_in_use_is_not_repaired(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    told = check(state_dir, "--repair")
    assert (told.returncode, told.stdout) == (2, "")
    assert "DirectoryInUseError: a service, or another repair uses" in told.stderr
    assert "end the agents, run `livingai stop" in told.stderr
    pids = state_dir.service_processes()
    with frozen([agent.pid]):
        kill(*pids)
        gone(*pids)
        told = check(state_dir, "--repair")
        assert (told.returncode, told.stdout) == (2, "")
        assert "the process that writes" in told.stderr
        assert check(state_dir).returncode == 0
    agent.call(acts.save, "run-1", 1)
    agent.settled(2)


def test_another_database(left: Place) -> None:
    """Nothing is made or changed in it."""
    other = left.folder / "other.db"
    other.touch()
    for more in ((), ("--repair",)):
        told = check(left, "--store", other, *more)
        assert (told.returncode, told.stdout) == (2, "")
        assert "belongs to" in told.stderr
    assert other.read_bytes() == b""
    told = check(left, "--store", "nowhere.db", "--json")
    assert told.returncode == 2
    assert list(json.loads(told.stdout)) == ["error"]
    assert "there is no database" in told.stderr


def test_a_database_that_was_replaced(left: Place) -> None:
    kept, third = left.folder / "kept.db", left.folder / "third.db"
    move_database(left.database, kept)
    agent = left.agent(database=third)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    assert agent.leave() == 0
    left.empty()
    move_database(third, left.database)
    told = check(left, "--store", "agent.db")
    assert (told.returncode, told.stdout) == (2, "")
    assert "a database that is not the one at" in told.stderr
    move_database(left.database, third)
    move_database(kept, left.database)
    assert check(left, "--store", "agent.db").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope.db"], "there is no database"),
        (["."], "no livingai state directory"),
        (["agent.db", "--store", "foo://x"], "no store has the scheme"),
        (["agent.db", "--no-such"], "No such option"),
    ],
)
def test_what_cannot_be_looked_at(left: Place, arguments: list[str], words: str) -> None:
    told = command(left, "check", *arguments)
    assert (told.returncode, told.stdout) == (2, "")
    assert words in told.stderr
