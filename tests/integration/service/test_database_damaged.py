"""Somebody overwrites the database under a running service. Once a process of the service notices,
nothing is written to it, the service says so, and what agents save waits in the journals until a
person puts a copy in its place; what had been stored since that was made is stored again."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random, SystemRandom

import apsw
import pytest

from livingai.errors import FlushTimeoutError, StoreDamagedError
from tests.support import acts, peek
from tests.support.agents import Agent
from tests.support.place import Place
from tests.support.places import command, move_database
from tests.support.states import state_of
from tests.support.waiting import gone, kill, until

SEED = int(os.environ.get("LIVINGAI_SEED", "0")) or SystemRandom().getrandbits(32)
#: Steps of "old", before the copy was made, and of "lost", after it.
OLD, LOST = 40, 10
PAGE = 8192


def overwrite(path: str | Path, begin: int, end: int) -> None:
    """Write bytes of no meaning into a file that others have open."""
    with open(path, "r+b", buffering=0) as file:
        file.seek(begin)
        file.write(Random(SEED).randbytes(end - begin))


def header(database: Path) -> None:
    """By which SQLite knows that it is a database."""
    overwrite(database, 0, 100)


def pages(database: Path) -> None:
    """All but the first one."""
    overwrite(database, PAGE, database.stat().st_size)


def half(database: Path) -> None:
    """Cut off."""
    os.truncate(database, database.stat().st_size // 2 // PAGE * PAGE)


def log(database: Path) -> None:
    """What was written last is only there."""
    path = f"{database}-wal"
    overwrite(path, 32, os.path.getsize(path))


#: What is damaged, and whether that is in the file alone: its log has not yet got what is newer.
DAMAGE: dict[str, tuple[Callable[[Path], None], bool]] = {
    "header": (header, True), "pages": (pages, True), "half": (half, True), "log": (log, False),
}  # fmt: skip


def fold(database: Path) -> None:
    """Copy all of the log into the file."""
    with closing(apsw.Connection(str(database))) as connection:
        connection.set_busy_timeout(20_000)
        done = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert done == [(0, 0, 0)]


def notices(agent: Agent) -> str:
    """What a reader is told, as soon as one is."""
    try:
        agent.call(acts.steps, "old")
    except StoreDamagedError as error:
        return str(error)
    return ""


def write_and_damage(place: Place, kind: str) -> Agent:
    """Have an agent write "old", "lost" and, once a reader has noticed the damage, "new". The agent
    still saves then; older.db is a copy of the database with "old" alone."""
    print(f"seed {SEED} (repeat with LIVINGAI_SEED={SEED})")
    database = place.database
    agent = place.agent(idle_s=60.0, cache_ttl_s=0.001)
    agent.call(acts.save_many, "old", OLD)
    agent.call(acts.drain)
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute("VACUUM INTO ?", (str(place.folder / "older.db"),))
    agent.call(acts.save_many, "lost", LOST)
    agent.call(acts.drain)
    damage, in_file = DAMAGE[kind]
    if in_file:
        fold(database)
    damage(database)
    told = until(lambda: notices(agent), what="a reader that notices")
    assert "damaged" in told
    assert "restore a backup" in told
    agent.call(acts.start, ["new"])
    agent.call(acts.saved, 20)  # no save waits, none fails
    before = place.ask("status")
    assert "damaged" in before.trouble
    assert "damaged" in command(place, "status", database).stdout
    for write in (acts.claim, acts.delete):  # at once, with much that is queued
        with pytest.raises(StoreDamagedError, match="damaged"):
            agent.call(write, "new")
    for words in (("fork", "old", "fork"), ("prune", "--keep-last", "1")):
        refused = command(place, words[0], database, *words[1:])
        assert refused.returncode != 0, words
        assert "damaged" in refused.stderr
    with pytest.raises(FlushTimeoutError, match="`livingai status` says what they wait for"):
        agent.call(acts.flush, 0.5)
    assert "damaged" in agent.call(acts.sla)["trouble"]
    checked = command(place, "check", database, "--store", database)
    assert checked.returncode == 2
    assert "damaged" in checked.stderr
    agent.call(acts.saved, 20)
    assert place.ask("status").outcomes == before.outcomes, "it is written to"
    return agent


def put_a_copy_back(place: Place) -> None:
    """What a person does."""
    move_database(place.database, place.folder / "away" / "agent.db")
    os.rename(place.folder / "older.db", place.database)


def store_again(place: Place) -> None:
    """What was stored after the copy was made is found to be missing, and is stored again."""
    where = ("check", place.database, "--store", place.database)
    checked = command(place, *where)
    assert (checked.returncode, "of execution lost" in checked.stdout) == (1, True)
    assert command(place, *where, "--repair").returncode == 0


def check_all(place: Place, rounds: int) -> None:
    """Everything is stored, once, in order."""
    for run, steps in (("old", OLD), ("lost", LOST), ("new", rounds)):
        assert peek.stored_steps(place.database, run) == list(range(steps)), run
        assert peek.stored_state(place.database, run) == state_of(run, steps - 1)


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_service_goes_on_with_the_copy(state_dir: Place, kind: str) -> None:
    agent = write_and_damage(state_dir, kind)
    put_a_copy_back(state_dir)
    until(lambda: not state_dir.ask("status").trouble, what="a sound store", timeout=240)
    rounds = agent.call(acts.halt)["rounds"]
    assert agent.settled(OLD + LOST + rounds, timeout=60).keys() <= {"met", "late"}
    assert peek.stored_steps(state_dir.database, "new") == list(range(rounds))
    service = state_dir.service_processes()
    agent.kill()
    kill(*service)
    gone(*service)
    state_dir.service_killed = True
    store_again(state_dir)
    with state_dir.service():  # it removes the journal, of which all is stored
        state_dir.ask("drain")
    check_all(state_dir, rounds)


def test_the_service_is_stopped_before_the_copy_is_put_back(state_dir: Place) -> None:
    """As docs/RECOVERY.md advises: what waits is a reason to keep the journals."""
    agent = write_and_damage(state_dir, "pages")
    rounds = agent.call(acts.halt)["rounds"]
    assert agent.leave() == 0
    stopped = command(state_dir, "stop", state_dir.database)
    assert stopped.returncode in (0, 1), stopped.stderr
    state_dir.empty(60)
    assert state_dir.journals()
    put_a_copy_back(state_dir)
    store_again(state_dir)
    with state_dir.service():
        state_dir.ask("drain")
    check_all(state_dir, rounds)
