"""deploy/backup: a backup that is taken while agents write is restored, and runs resume from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from livingai import ExecutionNode
from tests.support import acts, peek
from tests.support.agents import ROOT, environment
from tests.support.pages import programs
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import command
from tests.support.waiting import until

SCRIPTS = ROOT / "deploy" / "backup"


def script(place: Place, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script; the ``livingai`` that it calls is the one of this environment."""
    found = shutil.which("livingai", path=str(ROOT / ".venv" / "bin")) or shutil.which("livingai")
    assert found is not None
    path = f"{Path(found).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [SCRIPTS / name, *map(str, arguments)], cwd=place.folder, env=environment(PATH=path),
        capture_output=True, text=True, timeout=patience(120), check=False,
    )  # fmt: skip


def test_a_restored_backup_goes_on(state_dir: Place, tmp_path: Path) -> None:
    """Everything that was accepted before the backup began is in it. The store is lost with its
    directory; the restored one passes `check`, and an agent goes on with an execution."""
    folder = tmp_path / "back ups"
    agent = state_dir.agent()
    agent.call(acts.save_many, "run-0", 30)
    agent.settled(30)
    agent.call(acts.start, ["run-1"], size=2_000, interval_s=0.002)
    agent.call(acts.saved, 20)
    done = script(state_dir, "backup.sh", state_dir.database, folder)
    assert done.returncode == 0, done
    (backup,) = folder.iterdir()
    assert done.stdout.splitlines()[-1] == str(backup)
    rounds = agent.call(acts.halt)["rounds"]
    agent.settled()
    assert agent.leave() == 0
    until(lambda: not state_dir.service_processes(), what="the service's end")
    steps = peek.stored_steps(backup, "run-1")
    assert steps == list(range(len(steps)))
    assert 20 <= len(steps) <= rounds
    assert len(peek.stored_nodes(backup, "run-0")) == 30
    state_dir.database.unlink()
    for suffix in ("-wal", "-shm"):
        Path(f"{state_dir.database}{suffix}").unlink(missing_ok=True)
    shutil.rmtree(state_dir.directory.path)
    before = backup.read_bytes()
    told = script(state_dir, "restore.sh", backup, state_dir.database)
    assert told.returncode == 0, told
    assert backup.read_bytes() == before
    assert [each.name for each in folder.iterdir()] == [backup.name]
    again = state_dir.agent()
    again.call(acts.save, "run-1", len(steps))
    again.settled(1)
    checked = command(state_dir, "check", state_dir.database, "--store", state_dir.database)
    assert checked.returncode == 0, checked.stdout
    assert peek.stored_steps(state_dir.database, "run-1") == list(range(len(steps) + 1))
    assert again.leave() == 0


def test_a_run_of_the_backup_resumes(state_dir: Place, tmp_path: Path) -> None:
    """The program of docs/running/backup.md is killed in the middle, backed up, and ends well on
    the restored store: what was recorded is not done again."""
    (program,) = programs("running/backup.md")
    (tmp_path / "job.py").write_text(program)
    run = ["python", "job.py"]
    variables = environment(PATH=f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}")
    first = subprocess.run(
        run, cwd=tmp_path, env={**variables, "DIE": "1"}, capture_output=True, text=True,
        check=False, timeout=patience(60),
    )  # fmt: skip
    assert (first.returncode, first.stdout) == (-9, "planned\n"), first
    assert script(state_dir, "backup.sh", state_dir.database, tmp_path / "kept").returncode == 0
    (backup,) = (tmp_path / "kept").iterdir()
    until(lambda: not state_dir.service_processes(), what="the service's end")
    for each in tmp_path.glob("agent.db*"):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    assert script(state_dir, "restore.sh", backup, state_dir.database).returncode == 0
    second = subprocess.run(
        run, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
        timeout=patience(60),
    )  # fmt: skip
    assert (second.returncode, second.stdout) == (0, "packed\n"), second


def test_old_backups_go_and_unfinished_ones_are_no_backups(
    state_dir: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    for day in range(1, 6):
        (folder / f"livingai-2026010{day}T000000.db").touch()
    (folder / "livingai-notes.txt").touch()
    nothing = script(state_dir, "backup.sh", "sqlite:///nowhere/at/all.db", folder)
    assert nothing.returncode != 0
    assert len([*folder.glob("livingai-*.db")]) == 5
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"x").result(60)
    done = script(state_dir, "backup.sh", state_dir.database, folder, 2)
    assert done.returncode == 0, done
    left = sorted(each.name for each in folder.iterdir())
    assert left[0] == "livingai-20260105T000000.db"
    assert len(left) == 3
    assert left[-1] == "livingai-notes.txt"
    missing = script(state_dir, "restore.sh", folder / "none.db", state_dir.database)
    assert (missing.returncode, "there is no file" in missing.stderr) == (3, True)


@pytest.mark.parametrize("keep", ["0", "abc", "-1", "1.5", "7x", "00"])
def test_how_many_stay_is_looked_at_first(state_dir: Place, tmp_path: Path, keep: str) -> None:
    """A wrong KEEP copies nothing and removes nothing."""
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "livingai-20260101T000000.db").touch()
    told = script(state_dir, "backup.sh", "sqlite:///nowhere/at/all.db", folder, keep)
    assert told.returncode == 2, told
    assert "KEEP" in told.stderr
    assert [each.name for each in folder.iterdir()] == ["livingai-20260101T000000.db"]


def test_what_killed_backups_left_goes(state_dir: Place, tmp_path: Path) -> None:
    """That of more than a day ago, and nothing else; with KEEP 1 the new backup stays."""
    folder = tmp_path / "back ups"
    for name in (".unfinished-abcdef", ".unfinished-ghijkl", ".unfinished", "other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "copy.db").touch()
    for name in (".unfinished-abcdef", ".unfinished", "other"):
        os.utime(folder / name, (1, 1))
    (folder / "livingai-20260101T000000.db").touch()
    with state_dir.engine() as engine:
        engine.save_sync(ExecutionNode("run-1"), b"x").result(60)
    done = script(state_dir, "backup.sh", state_dir.database, folder, 1)
    assert done.returncode == 0, done
    new = Path(done.stdout.splitlines()[-1])
    left = {each.name for each in folder.iterdir()}
    assert left == {".unfinished-ghijkl", ".unfinished", "other", new.name}
    assert len(peek.stored_nodes(new, "run-1")) == 1
