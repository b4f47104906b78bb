"""`livingai backup` and `restore`: what is restored passes `livingai check`, and goes on."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore
from livingai.archives.backup import make_backup
from livingai.errors import ConfigurationError
from livingai.stores.opening import open_store
from tests.support import acts, programs
from tests.support.agents import environment
from tests.support.held import held
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.postgres_servers import shared_url
from tests.support.redis_servers import shared_server

RUN = "run-1"


def ran(folder: Path, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Exit status, output and error text of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments], env=environment(**env), cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience(120),
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_killed_run_goes_on_from_its_backup(state_dir: Place) -> None:
    """At the same place after the loss of both database and directory."""
    world = str(state_dir.folder / "world")
    agent = state_dir.agent()
    agent.send(programs.perform, RUN, world, "behind tool 1")
    assert agent.died(60) == -signal.SIGKILL
    status, out, err = ran(state_dir.folder, "backup", "agent.db", "saved.db", "--json")
    assert status == 0, err
    assert json.loads(out)["kind"] == "sqlite"
    expected = held(str(state_dir.database))
    state_dir.empty(30)
    shutil.rmtree(state_dir.directory.path)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{state_dir.database}{suffix}").unlink(missing_ok=True)
    assert ran(state_dir.folder, "restore", "saved.db", "agent.db")[0] == 0
    assert held(str(state_dir.database)) == expected
    before = programs.effects(world)
    again = state_dir.agent()
    assert again.call(programs.perform, RUN, world, resolve=True) == programs.FINAL
    after = programs.effects(world)
    assert all(after[f"tool {number}"] == 1 for number in range(programs.TOOLS))
    assert before["tool 1"] == 1, "it was made before the kill, and is not made again"
    assert again.leave() == 0
    assert ran(state_dir.folder, "check", "agent.db", "--store", "agent.db")[0] == 0


def test_while_agents_write(state_dir: Place) -> None:
    """A backup is of one moment, and restored elsewhere it is a store of its own while the one that
    it was made of lives on."""
    agent = state_dir.agent()
    agent.call(acts.start, ["busy"], interval_s=0.05)
    made = agent.call(acts.saved, 20)
    for number in range(2):
        status, _, err = ran(state_dir.folder, "backup", "-s", "agent.db", "saved.db")
        assert (status, err) == (0, "")
        there = state_dir.folder / f"elsewhere-{number}" / "other.db"
        there.parent.mkdir()
        assert ran(state_dir.folder, "restore", "saved.db", str(there))[0] == 0
        saved = held(str(there))
        store = open_store(str(there))
        with Service(store), CheckpointEngine(store) as engine:
            engine.save_sync(ExecutionNode("new"), "state").result(patience(30))
            engine.drain_sync()
        status, out, err = ran(state_dir.folder, "check", str(there), "--store", str(there))
        assert status == 0, out + err
        ours = held(str(state_dir.database))
        for run in set(saved) - {"costs"}:
            count = len(saved[run]["states"])
            assert saved[run]["states"] == ours[run]["states"][:count]
            assert count >= made
        made = agent.call(acts.saved, 5)
    agent.call(acts.halt)
    assert agent.leave() == 0


def test_what_is_waiting_is_in_it(state_dir: Place) -> None:
    """Records that an agent has left in its journal, as no service was there."""
    agent = state_dir.agent(idle_s=60.0)
    agent.call(acts.save, "run-1", 0)
    agent.call(acts.drain)
    service = state_dir.service_processes()
    agent.call(acts.save, "run-1", 1)
    agent.kill()
    for pid in service:
        os.kill(pid, signal.SIGKILL)
    state_dir.service_killed = True
    assert ran(state_dir.folder, "backup", "agent.db", "saved.db")[0] == 0
    assert len(held(str(state_dir.folder / "saved.db"))["run-1"]["states"]) == 2


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ],
)
def test_of_a_server(kind: str, tmp_path: Path) -> None:
    """It is an export; one of SQLite goes into a server, and one of a server into SQLite."""
    env = {"XDG_STATE_HOME": str(tmp_path / "home")}
    server = f"{shared_server().url}?prefix=" if kind == "redis" else f"{shared_url()}&schema="
    urls = [f"{server}t_{secrets.token_hex(6)}" for _ in range(2)]
    path = write(tmp_path)
    assert ran(tmp_path, "backup", path, "one.db", **env)[0] == 0
    for _ in range(2):
        status, out, err = ran(tmp_path, "restore", "one.db", urls[0], **env)
        assert status == 0, err
    assert held(urls[0]) == held(path)
    status, out, err = ran(tmp_path, "backup", urls[0], "two.zst", "--json", **env)
    assert status == 0, err
    assert json.loads(out)["kind"] == "export"
    assert "secret" not in out + err
    for where in (urls[1], str(tmp_path / "two.db")):
        assert ran(tmp_path, "restore", "two.zst", where, **env)[0] == 0
        assert held(where) == held(path)


def write(folder: Path) -> str:
    """A small database that no process uses."""
    path = str(folder / "agent.db")
    store = open_store(path)
    with Service(store), CheckpointEngine(store) as engine:
        for number in range(5):
            engine.save_sync(ExecutionNode("run-1"), {"step": number, "text": "x" * 3000})
        engine.drain_sync()
    return path


def test_what_it_refuses(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert ran(tmp_path, "backup", path, "saved.db")[0] == 0
    before = Path(path).read_bytes()
    others = tmp_path / "others.db"
    with closing(sqlite3.connect(others)) as database, database:
        database.execute("CREATE TABLE notes (text TEXT)")
    (tmp_path / "text").write_text("no backup\n")
    (tmp_path / "half.db").write_bytes((tmp_path / "saved.db").read_bytes()[:9000])
    damaged = bytearray((tmp_path / "saved.db").read_bytes())
    damaged[-3000:] = os.urandom(3000)
    damaged[4096 * 3 : 4096 * 3 + 500] = bytes(500)
    (tmp_path / "damaged.db").write_bytes(damaged)
    for arguments, expected, says in (
        (("restore", "saved.db", path), 1, "is there already"),
        (("restore", "none.db", "new.db"), 3, "no such file"),
        (("restore", "others.db", "new.db"), 4, "none of livingai's"),
        (("restore", "text", "new2.db"), 4, "line 1: "),
        (("restore", "half.db", "new.db"), 4, "damaged"),
        (("restore", "damaged.db", "new.db"), 4, "damaged"),
        (("backup", path, path), 2, "is the database itself"),
        (("backup", path, "saved.gz"), 2, "not compressed"),
        (("backup", path, "no/folder.db"), 1, "no such folder"),
        (("backup", "none.db", "x.db"), 3, "there is no database"),
        (("restore", "saved.db"), 2, "Missing argument"),
    ):
        status, out, err = ran(tmp_path, *arguments, LIVINGAI_STORE="")
        assert (status, out) == (expected, ""), (arguments, err)
        assert says in err.lower() or says in err, (arguments, err)
        assert ".part" not in err
        assert "livingai-restore-" not in err
        assert arguments[0] != "restore" or says != "damaged" or arguments[1] in err, err
    assert Path(path).read_bytes() == before
    assert not (tmp_path / "new.db").exists()
    assert not list(tmp_path.glob(".*.part*"))
    (tmp_path / "new.db-wal").touch()
    assert ran(tmp_path, "restore", "saved.db", "new.db")[0] == 1


def test_a_backup_that_is_killed_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    assert ran(tmp_path, "backup", path, "saved.db")[0] == 0
    expected: Any = held(path)
    store = open_store(path)
    with Service(store), CheckpointEngine(store) as engine:
        engine.save_sync(ExecutionNode("run-2"), os.urandom(1 << 20))
        engine.drain_sync()
    script = (
        "import os, signal, sys\n"
        "from livingai.archives import backup\n"
        "backup.make_backup(backup.SQLiteStore(sys.argv[1]), sys.argv[2],\n"
        "    max_state_bytes=1 << 26, progress=lambda done, of: os.kill(os.getpid(), 9))\n"
    )
    saved = str(tmp_path / "saved.db")
    done = subprocess.run(
        [sys.executable, "-c", script, path, saved], env=environment(), timeout=patience(60),
        check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, "before it took the place of the other one"
    shutil.copyfile(saved, tmp_path / "looked into.db")
    assert held(str(tmp_path / "looked into.db")) == expected
    assert ran(tmp_path, "backup", path, "saved.db")[0] == 0
    assert sorted(held(saved)) == ["costs", "run-1", "run-2"]


def test_a_backup_replaces_no_store(tmp_path: Path) -> None:
    """Only a backup that nobody has opened since; another database if that is asked for, but never
    what is in use, has left files beside it, or belongs to another."""
    path = write(tmp_path)
    names = {
        "live.db": "is there, which belongs", "alone.db": "--force", "others.db": "--force",
        "opened.db": "--force", "restored.db": "--force", "left.db": "left.db-journal is there",
        "new.db": "new.db-wal is there", "link.db": "is there, which belongs",
        "hard.db": "the database itself", "agent.db": "the database itself",
        "others.db-wal": "belongs to", "live.db-livingai/manifest.json": "is a state directory",
        "live.db-livingai/journals/x": "is a state directory",
    }  # fmt: skip
    for name in ("live.db", "alone.db"):
        shutil.copyfile(path, tmp_path / name)
    with CheckpointEngine(open_store(str(tmp_path / "live.db"))) as engine:
        engine.save_sync(ExecutionNode("live"), "state")
        engine.drain_sync()
    for name in ("opened.db", "left.db", "saved.db"):
        assert ran(tmp_path, "backup", path, name)[0] == 0
    assert ran(tmp_path, "restore", "saved.db", "restored.db")[0] == 0
    with open_store(str(tmp_path / "opened.db")):
        pass
    (tmp_path / "left.db-journal").touch()
    (tmp_path / "new.db-wal").write_bytes(b"a log")
    (tmp_path / "link.db").symlink_to("live.db")
    (tmp_path / "hard.db").hardlink_to(path)
    with closing(sqlite3.connect(tmp_path / "others.db")) as database, database:
        database.execute("CREATE TABLE notes (text TEXT)")
    # Its service ends by itself meanwhile, which moves its log into the database.
    of_live = [each for each in tmp_path.iterdir() if each.name.startswith("live.db")]
    files = [each for each in tmp_path.iterdir() if each.is_file() and each not in of_live]
    before = {each: each.read_bytes() for each in files if each.name != "link.db"}
    manifest = tmp_path / "live.db-livingai" / "manifest.json"
    before[manifest] = manifest.read_bytes()
    for name, says in names.items():
        force = [] if says == "--force" else ["--force"]
        status, _, err = ran(tmp_path, "backup", *force, name, LIVINGAI_STORE=path)
        assert (status, says in err) == (2, True), (name, err)
    for each, raw in before.items():
        assert each.read_bytes() == raw, each
    assert "live" in ran(tmp_path, "list", "-s", "live.db")[1]
    assert not (tmp_path / "others.db-wal").exists()
    assert ran(tmp_path, "backup", path, "saved.db")[0] == 0, "it is a backup"
    for name in ("alone.db", "others.db", "opened.db"):
        assert ran(tmp_path, "backup", path, name, "--force")[0] == 0
        assert ran(tmp_path, "backup", path, name)[0] == 0


def test_a_store_that_comes_while_a_backup_is_made(tmp_path: Path) -> None:
    path, target = write(tmp_path), tmp_path / "saved.db"
    raw = Path(path).read_bytes()

    def appears(done: int, of: int | None) -> None:
        target.write_bytes(raw)

    with pytest.raises(ConfigurationError, match="--force"):
        make_backup(
            SQLiteStore(path), str(target), max_state_bytes=1 << 26,
            progress=appears,
        )  # fmt: skip
    assert target.read_bytes() == raw
    assert not list(tmp_path.glob(".*.part*"))


def test_an_export_is_restored_from_standard_input(tmp_path: Path) -> None:
    path = write(tmp_path)
    command = [sys.executable, "-m", "livingai.cli"]
    exported = subprocess.run(
        [*command, "export", "-s", path], env=environment(), timeout=patience(60), check=True,
        capture_output=True,
    ).stdout  # fmt: skip
    for text, expected in ((exported, 0), (exported[:-20], 4), (b"no export\n", 4)):
        there = tmp_path / f"{len(text)}.db"
        done = subprocess.run(
            [*command, "restore", "-", str(there)], env=environment(), timeout=patience(60),
            check=False, capture_output=True, input=text,
        )  # fmt: skip
        assert done.returncode == expected, done.stderr
        if there.exists():
            assert held(str(there)) == held(path)
        assert there.exists() == (text != b"no export\n")
