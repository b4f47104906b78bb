"""STORE, the one place of all commands: typed, from the environment, or from a file of settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from livingai import CheckpointEngine, ExecutionNode, Service, SQLiteStore
from livingai.cli.main import COMMANDS, main
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place


def ran(folder: Path, *arguments: str, store: str | None = None) -> tuple[int, str, str]:
    """Exit status, output and error text of a command; ``store`` goes into its environment."""
    env = environment()
    env.pop("LIVINGAI_STORE", None)
    if store is not None:
        env["LIVINGAI_STORE"] = store
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments], env=env, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def stored(state_dir: Place) -> Place:
    """Two runs that are stored."""
    with state_dir.engine() as engine:
        for run in ("run-1", "run-2"):
            engine.save_sync(ExecutionNode(run), {"of": run})
        engine.drain_sync()
    return state_dir


def test_every_way_to_name_it(stored: Place) -> None:
    folder, state = stored.folder, stored.directory.path
    for arguments, named in (
        (["list", "-s", "agent.db"], None),
        (["list", "--store", "sqlite:///agent.db"], None),
        (["list", "-s", state], None),
        (["list"], "agent.db"),
        (["list", "-s", "agent.db"], "nope.db"),
    ):
        status, out, err = ran(folder, *arguments, store=named)
        assert (status, err) == (0, ""), arguments
        assert "run-1" in out
    for arguments, named in (
        (["status", "agent.db"], None),
        (["status", "-s", "agent.db"], None),
        (["status", state], "nope.db"),
        (["status"], "agent.db"),
        (["status", "--store", "agent.db"], "nope.db"),
        (["check"], "agent.db"),
        (["check", "--store", "agent.db"], None),
        (["check", state, "--store", "agent.db"], None),
        (["requeue"], "agent.db"),
    ):
        status, out, err = ran(folder, *arguments, store=named)
        # 3: the service has ended by itself by then, and that is what is shown.
        assert status in ((0, 3) if arguments[0] == "status" else (0,)), (arguments, err)
        assert err == "" or status == 3
        assert state in out or arguments[0] != "status"


def test_arguments_behind_a_place_that_is_left_out(stored: Place) -> None:
    folder = stored.folder
    assert ran(folder, "fork", "-s", "agent.db", "run-1", "run-3")[0] == 0
    assert ran(folder, "fork", "run-1", "run-4", store="agent.db")[0] == 0
    assert ran(folder, "fork", "agent.db", "run-1", "run-5", store="nope.db")[0] == 0
    assert ran(folder, "delete", "run-2", store="agent.db")[1] == "deleted 1 nodes of run-2\n"
    assert ran(folder, "requeue", "-s", "agent.db", "x.record")[0] == 1
    assert ran(folder, "copy", "-s", "agent.db", "copied.db")[0] == 0
    assert ran(folder, "copy", "twice.db", store=stored.directory.path)[0] == 0
    status, out, _ = ran(folder, "list", "-s", "twice.db")
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        "run-1",
        "run-3",
        "run-4",
        "run-5",
    ]
    status, _, err = ran(folder, "delete", "-s", "agent.db", "agent.db", "run-1")
    assert (status, "unexpected extra argument" in err) == (2, True)
    assert ran(folder, "delete", "-s", "", "run-1", store="agent.db")[0] == 2


def test_a_file_of_settings(stored: Place) -> None:
    below = stored.folder / "a" / "b"
    below.mkdir(parents=True)
    settings = stored.folder / "livingai.toml"
    settings.write_text('store = "agent.db"\n')
    assert "run-1" in ran(below, "list")[1]
    assert stored.directory.path in ran(below, "status")[1]
    assert ran(below, "delete", "run-2")[0] == 0
    assert ran(below, "list", store="nope.db")[0] == 3, "the environment counts more"
    settings.write_text('stroe = "agent.db"\n')
    for command in ("list", "status"):
        status, out, err = ran(below, command)
        assert (status, out) == (2, "")
        assert "did you mean 'store'" in err
    settings.unlink()
    for command, missing in (("list", "Missing option '--store'"), ("status", "Missing argument")):
        status, _, err = ran(below, command)
        assert (status, missing in err, "livingai.toml" in err) == (2, True, True), err


def test_a_state_directory_elsewhere(tmp_path: Path) -> None:
    """A setting of the file reaches what looks at files, what starts engines, and the service."""
    (tmp_path / "livingai.toml").write_text('store = "agent.db"\ndirectory = "elsewhere"\n')
    store = SQLiteStore(tmp_path / "agent.db")
    elsewhere = str(tmp_path / "elsewhere")
    with (
        Service(store, elsewhere),
        CheckpointEngine(store, directory=elsewhere) as engine,
    ):
        engine.save_sync(ExecutionNode("run-1"), "state")
        engine.drain_sync()
        status, out, err = ran(tmp_path, "status")
        assert (status, err) == (0, "")
        assert elsewhere in out
        assert ran(tmp_path, "fork", "run-1", "run-2")[0] == 0
        assert "run-2" in ran(tmp_path, "list")[1]
        assert ran(tmp_path, "check")[0] == 0
    assert not (tmp_path / "agent.db-livingai").exists()


def test_every_command_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIVINGAI_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in COMMANDS.keys() - {"completion"}:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        shown = CliRunner().invoke(main, [name, "--help"])
        assert shown.exit_code == 0
        assert "-s, --store STORE" in shown.output or "--store, -s" in shown.output, name
