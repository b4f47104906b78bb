"""Settings in a file: where it is found, what it may say, and what is said of a mistake in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livingai import Durability, EngineConfig, Retention, load_settings
from livingai.errors import ConfigurationError


@pytest.fixture(autouse=True)
def no_named_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIVINGAI_CONFIG", raising=False)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_all_of_it(tmp_path: Path) -> None:
    path = written(
        tmp_path / "livingai.toml",
        'store = "agent.db"\nbudget_ms = 20\ndurability = "fsync"\nwriters = 2\nhistory = false\n'
        'directory = "state"\npython = "/usr/bin/python3"\n'
        '[retention]\nkeep_last = 3\nstatuses = ["success"]\n',
    )
    found = load_settings(path)
    assert (found.path, found.store) == (str(path), str(tmp_path / "agent.db"))
    assert found.config == EngineConfig(
        budget_ms=20, durability=Durability.FSYNC, writers=2, history=False,
        directory=str(tmp_path / "state"), python="/usr/bin/python3",
        retention=Retention(keep_last=3, statuses=("success",)),
    )  # fmt: skip


def test_the_nearest_one_counts(tmp_path: Path) -> None:
    written(tmp_path / "livingai.toml", 'store = "far.db"')
    deep = tmp_path / "a" / "b"
    project = written(tmp_path / "a" / "pyproject.toml", "[tool.other]\nstore = 1\n")
    deep.mkdir()
    assert load_settings(folder=deep).store == str(tmp_path / "far.db"), "it has no table of ours"
    project.write_text("not TOML at all [")
    assert load_settings(folder=deep).store == str(tmp_path / "far.db")
    project.write_text('[tool.livingai]\nstore = "redis://host"\n')
    assert load_settings(folder=deep).store == "redis://host"
    own = written(tmp_path / "a" / "livingai.toml", "linger_ms = 1")
    found = load_settings(folder=deep)
    assert (found.path, found.store, found.config.linger_ms) == (str(own), None, 1)


def test_a_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "livingai.toml", 'store = "near.db"')
    other = written(tmp_path / "other" / "of-production.toml", 'store = "sqlite:///there.db"')
    monkeypatch.setenv("LIVINGAI_CONFIG", str(other))
    assert load_settings(folder=tmp_path).store == str(other.parent / "there.db")
    assert load_settings(tmp_path / "livingai.toml").store == str(tmp_path / "near.db")
    monkeypatch.setenv("LIVINGAI_CONFIG", "")
    assert load_settings(folder=tmp_path).store is None
    monkeypatch.setenv("LIVINGAI_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigurationError, match=r"none\.toml is not a regular file"):
        load_settings(folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("budget = 3", "unknown setting: budget \\(did you mean 'budget_ms'\\?\\)"),
        ("stroe = 'a.db'", "did you mean 'store'"),
        ("store = ''", "store must be a text"),
        ("store = 3", "store must be a text"),
        ("durability = 'disk'", "durability must be one of journal, fsync, store"),
        ("durability = 2", "durability must be one of"),
        ("budget_ms = 'x'", "budget_ms must be a positive number"),
        ("history = 1", "history must be true or false"),
        ("retention = 3", "retention must be a table"),
        ("[retention]\nkeep = 3", "did you mean 'keep_last'"),
        ("[retention]\nstatuses = ['gone']\nkeep_last=1", "no execution has the status"),
        ("codec = 'zip'", "codec must be"),
        ("store = ", "cannot be read as settings"),
        ("a = " + "[" * 100_000, "cannot be read as settings"),
        ("# " + "x" * (1 << 20), "is larger than"),
    ],
)
def test_a_mistake_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path / "livingai.toml", text)
    with pytest.raises(ConfigurationError, match=says) as caught:
        load_settings(folder=tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_passed_over(tmp_path: Path) -> None:
    """Whoever can write into a folder above could else say which Python runs the service."""
    path = written(tmp_path / "livingai.toml", 'store = "theirs.db"\npython = "/tmp/evil"')
    os.chown(path, 12_345, 12_345)
    below = tmp_path / "below"
    below.mkdir()
    found = load_settings(folder=below)
    assert (found.store, found.config.python, found.passed_over) == (None, None, (str(path),))
    assert load_settings(path).config.python == "/tmp/evil", "it was named"


@pytest.mark.parametrize("name", ["livingai.toml", "pyproject.toml"])
def test_a_file_that_was_only_found_does_not_say_what_is_run(tmp_path: Path, name: str) -> None:
    """A folder that was cloned from somebody else belongs to this user."""
    table = "[tool.livingai]\n" if name == "pyproject.toml" else ""
    path = written(tmp_path / name, f'{table}store = "a.db"\npython = "./evil"\n')
    with pytest.raises(ConfigurationError, match=f"LIVINGAI_CONFIG={path} if you trust it"):
        load_settings(folder=tmp_path)
    assert load_settings(path).config.python == f"{tmp_path}/./evil"


def test_settings_are_those_of_the_files_store(tmp_path: Path) -> None:
    written(tmp_path / "livingai.toml", 'store = "agent.db"\nbudget_ms = 7\n')
    (tmp_path / "agent.db").touch()
    (tmp_path / "link.db").symlink_to("agent.db")
    (tmp_path / "other.db").touch()
    found = load_settings(folder=tmp_path)
    for name, budget_ms in (("agent.db", 7), ("link.db", 7), ("other.db", 50), ("none.db", 50)):
        assert found.config_of(str(tmp_path / name)).budget_ms == budget_ms, name
    assert found.config_of("redis://host").budget_ms == 50
    written(tmp_path / "livingai.toml", "budget_ms = 7\n")
    assert load_settings(folder=tmp_path).config_of("redis://host").budget_ms == 7


def test_tiers_are_found_from_elsewhere(tmp_path: Path) -> None:
    written(tmp_path / "livingai.toml", 'store = "tiered:redis://hot|cold.db"')
    assert load_settings(folder=tmp_path).store == f"tiered:redis://hot|{tmp_path}/cold.db"
