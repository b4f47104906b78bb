"""``livingai import --from livingai-0.4``: a database that the release 0.4.1 has written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from livingai import (
    ExecutionNode,
    NodeType,
    RecoveryEngine,
    SQLiteStore,
    Status,
)
from livingai.errors import StoreFormatError
from tests.support.agents import ROOT, environment
from tests.support.place import Place
from tests.support.places import command
from tests.support.sqlite import raw
from tests.support.waiting import until

WRITTEN = ROOT / "tests" / "data" / "livingai-0.4.1" / "agent.db"
T0 = 1782907200.25  # 2026-07-01 12:00:00.25 UTC


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what the release has written."""
    path = tmp_path / "old" / "agent.db"
    path.parent.mkdir()
    shutil.copy(WRITTEN, path)
    return path


def brought(place: Place, source: Path, *options: str, status: int = 0) -> dict[str, Any]:
    """Import; what was said, as JSON."""
    told = command(
        place, "import", "--from", "livingai-0.4", source, place.database, "--json", *options
    )
    assert told.returncode == status, told
    assert "Traceback" not in told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def listed(place: Place) -> dict[str, tuple[int, int]]:
    """Nodes and checkpoints of each execution in the store."""
    told = command(place, "list", "-s", str(place.database), "--json", "--all")
    lines = map(json.loads, told.stdout.splitlines())
    return {each["execution_id"]: (each["nodes"], each["checkpoints"]) for each in lines}


def digest(path: Path) -> str:
    """Of the file's bytes; there is no other file beside it."""
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_the_release_has_written(state_dir: Place, source: Path) -> None:
    before = digest(source)
    found = brought(state_dir, source)
    assert (found["threads"], found["checkpoints"], found["added_checkpoints"]) == (3, 20, 20)
    assert found["verified_checkpoints"] == 20
    assert digest(source) == before
    with state_dir.engine() as engine:
        nodes = {each.id: each for each in engine.nodes_sync("trip-1")}
        assert list(nodes) == ["plan", "look-up", "charge", "memory"]
        plan = nodes["plan"]
        assert plan == ExecutionNode(
            "trip-1", NodeType.PROMPT, Status.SUCCESS, input={"goal": "Zürich ✈"},
            output=["fly", "pay"], cost_tokens=321, latency_ms=900.0, id="plan", created_at=T0,
            completed_at=T0 + 1,
        )  # fmt: skip
        assert engine.load_sync("plan")[1] == b'{"step": 1, "history": ["' + b"plan " * 400 + b'"]}'
        assert engine.load_sync("memory")[1] == bytes(range(256))
        assert engine.latest_sync("trip-1")[0].id == "memory"
        assert nodes["look-up"].idempotent
        assert nodes["look-up"].metadata == {"idempotent": True, "tool": "search"}
        assert not nodes["charge"].idempotent  # 0.4.1 takes "no" for nothing said
        failed, state = engine.latest_sync("trip-2")
        assert (failed.type, failed.status, state) == (NodeType.BRANCH, Status.FAILED, b"")
        assert failed.error is not None
        assert (failed.error.type, failed.error.message) == ("ValueError", "no such way")
        steps = engine.nodes_sync("loop")
        assert [each.id for each in steps] == [f"step-{step:02}" for step in range(12)]
        assert steps[0].output == "again"
        assert steps[11].metadata == {"thread": None, "n": [11, 2**63 + 11]}
        assert engine.latest_sync("loop")[1] == b"last"
        plan_of = RecoveryEngine(engine).plan_sync("trip-1")
        assert [each.id for each in plan_of.in_doubt_nodes] == ["charge"]
    assert listed(state_dir) == {"loop": (12, 13), "trip-1": (4, 2), "trip-2": (1, 1)}


def test_again_it_adds_nothing_and_later_what_is_new(state_dir: Place, source: Path) -> None:
    brought(state_dir, source)
    assert brought(state_dir, source)["added_checkpoints"] == 0
    with closing(sqlite3.connect(source)) as old, old:
        old.execute("INSERT INTO nodes SELECT NULL, id, execution_id, replace(data, '\"fly\"', "
                    "'\"walk\"'), checkpoint FROM nodes WHERE seq = 2")  # fmt: skip
    assert brought(state_dir, source)["added_checkpoints"] == 1
    told = command(state_dir, "import", "--from", "livingai-0.4", source, state_dir.database)
    assert told.stdout.splitlines() == [
        "3 executions with 21 saves; imported 0 saves; 21 saves were there already",
        "read back: 21 saves are the same in both",
    ]
    with state_dir.engine() as engine:
        assert engine.nodes_sync("trip-1")[0].output == ["walk", "pay"]


def test_a_program_may_go_on_with_what_was_imported(state_dir: Place, source: Path) -> None:
    brought(state_dir, source)
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("loop", id="step-12"), b"newer").result(60)
    assert brought(state_dir, source)["added_checkpoints"] == 0
    with state_dir.engine() as engine:
        assert engine.latest_sync("loop")[1] == b"newer"


def test_another_execution_of_that_id_is_left_alone(state_dir: Place, source: Path) -> None:
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("trip-2", id="other"), b"other").result(60)
    for options in (["--dry-run"], []):
        found = brought(state_dir, source, *options, status=4)
        assert found["error"] == "ImportMismatchError"
    with state_dir.engine() as engine:
        assert engine.latest_sync("trip-2")[1] == b"other"
        assert len(engine.nodes_sync("trip-2")) == 1


def test_a_part_and_a_dry_run(state_dir: Place, source: Path) -> None:
    found = brought(state_dir, source, "--dry-run")
    assert (found["added_checkpoints"], found["dry_run"]) == (20, True)
    assert not state_dir.database.exists()
    assert brought(state_dir, source, "--thread", "trip-2")["added_checkpoints"] == 1
    assert set(listed(state_dir)) == {"trip-2"}
    assert "no execution" in brought(state_dir, source, "--thread", "trip-3", status=4)["message"]


# -- killed --


def many(path: Path, executions: int, rows: int) -> None:
    """A database in the format of 0.4.1 with nodes that are saved twice, each time with a state."""
    with closing(sqlite3.connect(WRITTEN)) as old:
        (schema,) = old.execute("SELECT sql FROM sqlite_master WHERE name = 'nodes'").fetchone()
    with closing(sqlite3.connect(path)) as new, new:
        new.execute(schema)
        new.executemany("INSERT INTO nodes VALUES (NULL, ?, ?, ?, ?)", _made(executions, rows))


def _made(executions: int, rows: int) -> Iterable[tuple[str, str, str, bytes]]:
    for number in range(rows):
        for each in range(executions):
            data: dict[str, Any] = {
                "id": f"{each}-{number // 2}", "execution_id": f"run-{each}", "type": "PROMPT",
                "status": ("RUNNING", "SUCCESS")[number % 2], "output": number, "metadata": {},
                "created_at": "2026-07-01T12:00:00+00:00",
            }  # fmt: skip
            state = b"\x01" + zlib.compress(f"{each} {number} ".encode() * 300)
            yield str(data["id"]), f"run-{each}", json.dumps(data), state


def test_killed_again_and_again_it_imports_each_row_once(state_dir: Place, tmp_path: Path) -> None:
    """Sometimes with the service, so that what it had accepted is in the journals only."""
    path = tmp_path / "old.db"
    many(path, 3, 400)
    arguments = ["import", "--from", "livingai-0.4", str(path), str(state_dir.database)]
    killed = 0
    for goal in (1, 150, 500, 900):
        with subprocess.Popen(
            [sys.executable, "-m", "livingai.cli", *arguments], env=environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as importer:  # fmt: skip
            try:
                until(
                    lambda: importer.poll() is not None or _stored(state_dir.database) >= goal,  # noqa: B023
                    what=f"{goal} rows stored",
                    timeout=60,
                )
                killed += importer.poll() is None
            finally:
                importer.kill()
        if goal == 500:
            state_dir.kill_service()
            state_dir.service_killed = True
    assert killed >= 3
    found = brought(state_dir, path)
    assert found["checkpoints"] == found["verified_checkpoints"] == 1200
    assert 0 < found["added_checkpoints"] < 1200
    assert listed(state_dir) == {f"run-{each}": (200, 400) for each in range(3)}
    assert brought(state_dir, path)["added_checkpoints"] == 0


def _stored(database: Path) -> int:
    try:
        return int(raw(database, "SELECT count(*) FROM checkpoints")[0][0])
    except (apsw.SQLError, apsw.CantOpenError, apsw.BusyError):  # not made yet
        return 0


# -- damaged, hostile, and something else --


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE nodes SET data = substr(data, 2) WHERE seq = 3", "row 3"),
        ("UPDATE nodes SET data = '[]' WHERE seq = 3", "row 3"),
        ("UPDATE nodes SET data = '{}' WHERE seq = 3", "row 3"),
        ("UPDATE nodes SET data = replace(data, 'TOOL', 'ORACLE') WHERE seq = 3", "row 3"),
        ("UPDATE nodes SET data = replace(data, 'look-up', '') WHERE seq = 3", "row 3"),
        ("UPDATE nodes SET checkpoint = x'01' || substr(checkpoint, 2, 20) WHERE seq = 2", "row 2"),
        ("UPDATE nodes SET checkpoint = x'01ff' WHERE seq = 2", "row 2"),
        ("UPDATE nodes SET checkpoint = x'28b5' WHERE seq = 2", "compressor of the program's own"),
        ("UPDATE nodes SET checkpoint = 'text' WHERE seq = 2", "row 2"),
        ("UPDATE nodes SET execution_id = CAST(x'ff41' AS TEXT) WHERE seq = 3", "no text"),
        ("UPDATE nodes SET execution_id = x'ff41' WHERE seq = 3", "no text"),
        ("UPDATE nodes SET data = CAST(x'ff41' AS TEXT) WHERE seq = 3", "row 3"),
        ("ALTER TABLE nodes RENAME COLUMN checkpoint TO state", "lacks checkpoint"),
        ("DROP TABLE nodes", "no database of livingai 0.4"),
    ],
)
def test_what_cannot_be_read_is_named(
    state_dir: Place, source: Path, change: str, said: str
) -> None:
    with closing(sqlite3.connect(source)) as old, old:
        old.execute(change)
    found = brought(state_dir, source, "--dry-run", status=4)
    assert said in found["message"], found


def test_a_state_that_grows_without_end_takes_no_memory(state_dir: Place, source: Path) -> None:
    """A gigabyte of zeros in a megabyte."""
    with closing(sqlite3.connect(source)) as old, old:
        pack = zlib.compressobj(9)
        blob = b"\x01" + b"".join(pack.compress(bytes(1 << 20)) for _ in range(1024)) + pack.flush()
        old.execute("UPDATE nodes SET checkpoint = ? WHERE seq = 2", (blob,))
    found = brought(state_dir, source, "--dry-run", status=4)
    assert "max_state_bytes" in found["message"]


def test_a_database_of_this_livingai_is_no_source(state_dir: Place, tmp_path: Path) -> None:
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"x").result(60)
    told = command(
        state_dir, "import", "--from", "livingai-0.4", state_dir.database, tmp_path / "new.db"
    )
    assert told.returncode == 4
    assert "open it as it is" in told.stderr
    nowhere = command(state_dir, "import", "--from", "livingai-0.4", "nowhere.db", "new.db")
    assert (nowhere.returncode, "there is no file" in nowhere.stderr) == (4, True)
    assert not os.path.exists(tmp_path / "nowhere.db")


def test_who_opens_it_as_it_is_hears_how_to_bring_it_in(state_dir: Place, source: Path) -> None:
    """The same path in a program of today; the file is not touched."""
    before = digest(source)
    with pytest.raises(StoreFormatError, match=r"livingai import --from livingai-0\.4"):
        SQLiteStore(source).validate()
    told = command(state_dir, "list", "-s", source)
    assert told.returncode == 4
    assert "brings what it holds into a new file" in told.stderr
    assert digest(source) == before
