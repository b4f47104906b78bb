"""Databases that are moved: an accepted record without an outcome, and ways to another place."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from livingai.queue.directory import StateDirectory
from livingai.queue.waiting import waiting_records
from tests.support import acts
from tests.support.agents import Agent, environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import frozen, gone, kill

RUN = "run-1"


def leave_a_record(place: Place, database: Path | str, **settings: Any) -> StateDirectory:
    """Have step 0 stored and step 1 accepted only, then kill everybody; the state directory."""
    agent = place.agent(database=database, **settings)
    agent.call(acts.save, RUN, 0)
    agent.settled(1)
    path = agent.call(directory_of)
    services = place.service_processes()
    with frozen(services):
        agent.call(acts.save, RUN, 1)
        agent.kill()
        kill(*services)
    gone(*services)
    place.service_killed = True
    directory = StateDirectory(path)
    assert waiting_records(directory) == waiting_records(directory, of_dead_owners=True) == 1
    return directory


def directory_of(agent: Any) -> str:
    """The agent's state directory."""
    return str(agent.engine.directory.path)


def manifest(directory: str | Path) -> dict[str, Any]:
    """What a manifest says."""
    found: dict[str, Any] = json.loads((Path(directory) / "manifest.json").read_text())
    return found


def make_old(directory: str | Path, database: Path | None = None) -> None:
    """As an earlier livingai left them: no identity anywhere."""
    about = manifest(directory)
    kept = {name: about[name] for name in ("format", "store")}
    (Path(directory) / "manifest.json").write_text(json.dumps(kept))
    if database is not None:
        import apsw

        connection = apsw.Connection(str(database))
        connection.execute("DROP TABLE livingai_marks")
        connection.close(True)


def move_database(old: Path, new: Path) -> None:
    """Move the file with its log, and nothing else."""
    new.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("-wal", "-shm", ""):
        if os.path.exists(f"{old}{suffix}"):
            shutil.move(f"{old}{suffix}", f"{new}{suffix}")


def command(place: Place, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``livingai ...`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "livingai.cli", *map(str, arguments)], env=environment(),
        cwd=place.folder, capture_output=True, text=True, timeout=patience(120), check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def newest(agent: Agent) -> int:
    """The newest step that an agent sees."""
    step: int = agent.call(acts.latest, RUN)[0]["step"]
    return step


def change_database(path: Path, *statements: str) -> None:
    """Do this to a database, as another program."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def damage_the_notes(path: Path) -> None:
    """Write what is not UTF-8 into a database's notes of its state directories."""
    change_database(
        path,
        "UPDATE livingai_marks SET value = CAST(x'ff31' AS TEXT) WHERE name LIKE 'directory:%'",
    )
