"""livingai from its wheel, with nothing of the repository on the path: the commands, a save with
the service that it starts, and the files that are not Python."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling import build

from tests.support.agents import ROOT, environment
from tests.support.patience import patience
from tests.support.place import Place

SAVE = """
import importlib.resources, json
import livingai
from livingai import CheckpointEngine, ExecutionNode, SQLiteStore

with CheckpointEngine(SQLiteStore("agent.db"), idle_s=60) as engine:
    outcome = engine.save_sync(ExecutionNode("run-1"), b"state").result(30)
scripts = importlib.resources.files("livingai.stores.redis")
print(json.dumps({
    "file": livingai.__file__,
    "outcome": str(outcome.status),
    "scripts": {p.name: len(p.read_text()) for p in scripts.iterdir() if p.name.endswith(".lua")},
}))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the wheel installs."""
    folder = tmp_path / "installed"
    with monkeypatch.context() as context:
        context.chdir(ROOT)
        wheel = tmp_path / build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(place: Place, installed: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, *arguments],
        env=environment(PYTHONPATH=str(installed)),
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_wheel_works_alone(state_dir: Place, installed: Path) -> None:
    told = json.loads(run(state_dir, installed, "-c", SAVE))
    assert Path(told["file"]).is_relative_to(installed)
    assert told["outcome"] in ("met", "late")  # a first save waits for the service
    scripts = {path.name: len(path.read_text()) for path in (ROOT / "stores/redis").glob("*.lua")}
    assert told["scripts"] == scripts
    assert len(scripts) >= 3

    commands = run(state_dir, installed, "-m", "livingai", "--help")
    assert "import-runs" in commands
    status = run(state_dir, installed, "-m", "livingai", "status", "agent.db")
    (supervisor,) = [line.split()[1] for line in status.splitlines() if "supervisor" in line]
    started = Path(f"/proc/{supervisor}/environ").read_text().split("\0")
    (path,) = [
        value.split("=")[1].split(":") for value in started if value.startswith("PYTHONPATH")
    ]
    found = next(folder for folder in path if Path(folder, "livingai").is_dir())
    assert Path(found) == installed, "the service is the installed one"
    assert run(state_dir, installed, "-m", "livingai", "check", "agent.db").startswith("ok: ")
    assert run(state_dir, installed, "-m", "livingai.cli", "stop", "agent.db") == "stopped\n"


def test_the_console_script_is_the_group(installed: Path) -> None:
    (entries,) = installed.glob("livingai-*.dist-info/entry_points.txt")
    assert "livingai = livingai.cli.main:main" in entries.read_text()
