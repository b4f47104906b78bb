"""The kill matrix: each failpoint, in each kind of process that hits it, at its first hit and at a
later one. A cell is a scenario in which one process dies there, or is told of an I/O error; then
all has to go on by itself, with nothing lost, doubled, out of order or left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from livingai import RecoveryEngine
from livingai.failpoint import NAMES
from livingai.inspection.check import check_directory
from livingai.stores.sqlite.schema import SCHEMA_VERSION
from tests.support import acts, peek, programs
from tests.support.agents import environment
from tests.support.journals import flip
from tests.support.kill_work import Witness, work
from tests.support.odd import put_odd
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import leave_a_record, move_database
from tests.support.sqlite import refusing
from tests.support.states import state_of
from tests.support.store_damage import OVERTAKEN, STEPS, Stored, restore


class Cell(NamedTuple):
    """One failpoint in one kind of process, what it does there, and at which hit."""

    name: str
    kind: str
    action: str
    nth: int

    def __str__(self) -> str:
        return f"{self.name}@{self.kind}={self.action}*{self.nth}"


#: Failpoints that a process hits once at most.
ONCE: Final = frozenset({
    "create.before_rename", "create.after_rename", "supervisor.before_start",
    "supervisor.after_start", "relocate.after_manifest", "relocate.before_done",
    "resolve.after_claim", "resolve.after_save",
})  # fmt: skip
#: Where a step does I/O of its own that can fail.
IO: Final = (
    "create.before_rename", "patch.before_base", "journal.before_append", "journal.before_fsync",
    "rotate.after_create", "journal.before_recycle", "journal.after_rename",
    "supervisor.before_start", "dispatcher.before_cursor", "quarantine.before_rename",
)  # fmt: skip


#: Of these the store does not take part.
_WITHOUT_STORE: Final = (
    "create", "takeover", "patch", "journal", "rotate", "supervisor", "compressor", "quarantine",
    "requeue", "resolve", "migrate", "relocate", "repair", "sqlite",
)  # fmt: skip


#: Of adapters, whose frameworks are in environments of their own: tests/support/thread_kills.py.
_ADAPTERS: Final = ("thread",)


def cells() -> list[Cell]:
    """The whole matrix, on SQLite."""
    return _cells([name for name in NAMES if name.partition(".")[0] not in _ADAPTERS])


def store_cells() -> list[Cell]:
    """Those of the steps in which it matters what the store does, for other stores."""
    without = (*_WITHOUT_STORE, *_ADAPTERS)
    return _cells([name for name in NAMES if name.partition(".")[0] not in without])


def _cells(names: list[str]) -> list[Cell]:
    found = []
    for name in names:
        kinds = NAMES[name]
        for kind in kinds:
            hits = (1,) if name in ONCE else (1, 2)
            found += [Cell(name, kind, "kill", nth) for nth in hits]
            if name in IO:
                found.append(Cell(name, kind, "error", 1))
    return found


def run(cell: Cell, place: Place) -> None:
    """Go through a cell; AssertionError if the failpoint was not hit or anything is wrong."""
    tokens = place.folder / "tokens"
    tokens.mkdir()
    armed = {"LIVINGAI_FAILPOINTS": str(cell), "LIVINGAI_FAILPOINT_TOKENS": str(tokens)}
    place.service_killed = place.tracebacks_allowed = True
    scenario_of(cell)(place, armed)
    token = tokens / cell.name
    assert token.exists(), f"{cell} was not hit"
    assert token.read_text().split()[0] == cell.kind
    report = check_directory(place.directory.path)
    assert report.ok, report.errors


def scenario_of(cell: Cell) -> Callable[[Place, dict[str, str]], None]:
    """In what a failpoint is hit."""
    family = cell.name.partition(".")[0]
    by_family = {
        "requeue": requeued, "quarantine": requeued, "migrate": migrated, "relocate": relocated,
        "repair": repaired, "resolve": resolved,
    }  # fmt: skip
    if cell.name == "repair.after_store":
        return stored_again
    return by_family.get(family, worked)


def worked(place: Place, armed: dict[str, str]) -> None:
    """Agents and their service do all that they can."""
    witness = Witness(place, armed)
    work(witness)
    agents_die = "@agent=kill" in armed["LIVINGAI_FAILPOINTS"]
    assert witness.deaths == agents_die, f"{witness.deaths} agents died: {witness.errors}"


def _command(place: Place, *arguments: str | Path, env: dict[str, str]) -> int:
    told = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *map(str, arguments)], env=environment(**env),
        cwd=place.folder, capture_output=True, text=True, timeout=patience(120), check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert told.returncode in (0, -9), told.stderr + told.stdout
    return told.returncode


def _until_done(place: Place, *arguments: str | Path, env: dict[str, str]) -> None:
    """The command, and again if it was killed; the second time nothing kills it."""
    if _command(place, *arguments, env=env):
        assert _command(place, *arguments, env=env) == 0


def requeued(place: Place, armed: dict[str, str]) -> None:
    """Two writes that the store refuses are set aside, and queued again once it takes them."""
    agent = place.agent(env=armed)
    agent.call(acts.save, "run-1", 0)
    agent.settled(1)
    with refusing(place.database):
        agent.call(acts.save, "run-1", 1)
        agent.call(acts.save, "run-1", 2)
        assert agent.settled(3, timeout=60)["quarantined"] == 2
    assert agent.leave() == 0
    place.empty(60)
    _until_done(place, "requeue", "agent.db", env=armed)
    place.empty(60)
    assert sorted(peek.stored_steps(place.database, "run-1")) == [0, 1, 2]
    for step, state in peek.stored_states(place.database, "run-1"):
        assert state == state_of("run-1", step)
    assert not list(Path(place.directory.quarantine).glob("*.record"))


def resolved(place: Place, armed: dict[str, str]) -> None:
    """A run was killed in a tool, and somebody decides that this has happened: either nothing is
    settled, and it can be decided again, or the decision counts. The tool is never made again."""
    world = str(place.folder / "world")
    agent = place.agent()
    agent.send(programs.perform, "run-1", world, "tool after effect 1")
    assert agent.died(60) == -9
    decide = ("resolve", "-s", "agent.db", "run-1", "charge", "--done", '"ticket 1"', "--yes")
    assert _command(place, *decide, env=armed) == -9, "it died there"
    with place.engine() as engine:
        in_doubt = RecoveryEngine(engine).plan_sync("run-1").in_doubt_nodes
    if "after_claim" in armed["LIVINGAI_FAILPOINTS"]:
        assert [node.metadata["name"] for node in in_doubt] == ["charge"], "nothing is settled"
        assert _command(place, *decide, env=armed) == 0
    else:
        assert not in_doubt, "it is settled"
    successor = place.agent()
    assert successor.call(programs.perform, "run-1", world) == programs.FINAL
    assert successor.leave() == 0
    assert {programs.effects(world)[f"tool {number}"] for number in range(programs.TOOLS)} == {1}
    place.empty(60)


def relocated(place: Place, armed: dict[str, str]) -> None:
    """A database moves away from its directory, in which an accepted write waits."""
    directory = leave_a_record(place, place.database)
    moved = place.folder / "moved" / "agent.db"
    move_database(place.database, moved)
    arguments = ("relocate", moved, "--directory", directory.path)
    _until_done(place, *arguments, env=armed)
    assert peek.stored_steps(moved, "run-1") == [0, 1]
    assert peek.stored_state(moved, "run-1") == state_of("run-1", 1)
    place.empty(60)
    move_database(moved, place.database)
    assert _command(place, "relocate", place.database, "--directory", directory.path, env={}) == 0


def repaired(place: Place, armed: dict[str, str]) -> None:
    """Control page and cursor of a journal are damaged, and an accepted write waits in it."""
    directory = leave_a_record(place, place.database)
    (journal,) = place.journals()
    flip(Path(journal, "control"), 20 * 8)
    put_odd("directory", Path(journal, "cursor"))
    _until_done(place, "check", place.database, "--store", place.database, "--repair", env=armed)
    aside = {path.name for path in Path(directory.quarantine).iterdir()}
    for name in ("control", "cursor", "index"):
        assert any(f"-{name}.odd" in each for each in aside), f"{name} is not kept: {aside}"
    with place.service():
        place.ask("drain")
    assert peek.stored_steps(place.database, "run-1") == [0, 1]
    assert peek.stored_state(place.database, "run-1") == state_of("run-1", 1)


def stored_again(place: Place, armed: dict[str, str]) -> None:
    """A database was replaced by an older copy of itself: what is missing is stored again."""
    restore(Stored.make(place))
    where = ("check", place.database, "--store", place.database)
    _until_done(place, *where, "--repair", env=armed)
    assert _command(place, *where, env={}) == 0  # it finds nothing
    for run in ("run-1", "run-2"):
        assert peek.stored_steps(place.database, run) == list(range(STEPS)), run
    versions = peek.stored_versions(place.database, "run-1")
    assert versions == [(1, seq) for seq in range(1, STEPS + 1)], "lost or doubled"
    for step, state in peek.stored_states(place.where, "run-1"):
        assert state == state_of("run-1", step)
    assert peek.stored_state(place.database, "overtaken") == state_of("overtaken", OVERTAKEN - 1)
    with place.service():
        place.ask("drain")


def migrated(place: Place, armed: dict[str, str]) -> None:
    """A database of the first schema is copied into a new one: both get the newest schema."""
    agent = place.agent()
    for step in range(3):
        agent.call(acts.save, "run-1", step)
    agent.settled(3)
    assert agent.leave() == 0
    place.empty(60)
    with closing(apsw.Connection(str(place.database))) as connection:
        for view in ("runs", "steps", "states"):
            connection.execute(f"DROP VIEW {view}")
        for column in ("error", "life_epoch", "life_seq", "entered_at", "ended_at"):
            connection.execute(f"ALTER TABLE executions DROP COLUMN {column}")
        connection.pragma("user_version", 1)
    copied = place.folder / "copied.db"
    _until_done(place, "copy", place.database, copied, env=armed)
    for database in (place.database, copied):
        with closing(apsw.Connection(str(database))) as connection:
            assert connection.pragma("user_version") == SCHEMA_VERSION
        peek.check_database(database)
        assert peek.stored_steps(database, "run-1") == [0, 1, 2]
        assert peek.stored_state(database, "run-1") == state_of("run-1", 2)
