"""Who uses a name of livingai 0.4 hears what there is instead, as docs/MIGRATING.md says it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import livingai
from livingai import (
    CheckpointEngine,
    EngineConfig,
    PostgresStore,
    RecoveryEngine,
    RedisStore,
    ReplaySession,
    Service,
    SQLiteStore,
)
from livingai.errors import ConfigurationError
from livingai.names_04 import KEYWORDS, NAMES
from livingai.replay.mode import make_request
from tests.support.agents import ROOT, environment
from tests.support.patience import patience

PAGE = (ROOT / "docs" / "MIGRATING.md").read_text(encoding="utf-8")
OLD = [(what, name) for what, old in KEYWORDS.items() for name in old]


def give(what: str, given: dict[str, Any], folder: Path) -> None:
    """Call with a keyword as 0.4 did."""
    engine: Any = CheckpointEngine(SQLiteStore(folder / "a.db"))
    calls: dict[str, Any] = {
        "CheckpointEngine": lambda: CheckpointEngine(engine.store, **given),
        "EngineConfig": lambda: EngineConfig(**given),
        "RedisStore": lambda: RedisStore(**given),
        "PostgresStore": lambda: PostgresStore(**given),
        "RecoveryEngine": lambda: RecoveryEngine(**given),
        "ReplaySession": lambda: ReplaySession(**given, execution_id="run-1"),
        "ReplaySession.run": lambda: make_request(given),  # type: ignore[arg-type]
    }
    calls[what]()


@pytest.mark.parametrize(("what", "name"), OLD)
def test_an_old_keyword_names_the_new_one(what: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        give(what, {name: "anything"}, tmp_path)
    assert f"{what} took {name}= in livingai 0.4" in str(caught.value)
    assert KEYWORDS[what][name] in str(caught.value)


def test_the_metrics_of_the_engine_are_another_thing(tmp_path: Path) -> None:
    old: Any = {"metrics": object()}
    with pytest.raises(ConfigurationError, match=r"0\.4 it was an object.*engine\.sla\(\)"):
        CheckpointEngine(SQLiteStore(tmp_path / "a.db"), **old)


def test_a_store_in_the_place_of_the_engine(tmp_path: Path) -> None:
    store: Any = SQLiteStore(tmp_path / "a.db")
    with pytest.raises(ConfigurationError, match=r"ReplaySession\(engine, execution_id\)"):
        ReplaySession(store, "run-1")


def test_a_service_says_it_too(tmp_path: Path) -> None:
    old: Any = {"overhead_budget_ms": 50}
    with pytest.raises(ConfigurationError, match="budget_ms"):
        Service(SQLiteStore(tmp_path / "a.db"), **old)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_name_says_what_there_is(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"livingai\.{name} was in livingai 0\.4"):
        getattr(livingai, name)
    assert name not in livingai.__all__


def test_other_names_are_plain_errors() -> None:
    assert not hasattr(livingai, "nonsense")
    untyped: Any = RedisStore
    with pytest.raises(TypeError, match="nonsense"):
        untyped(nonsense=1)


def test_no_signature_has_changed() -> None:
    """Editors and inspect see the constructors as they are written."""
    for cls in (RedisStore, PostgresStore, RecoveryEngine, ReplaySession):
        untyped: Any = cls
        written = inspect.signature(untyped.__init__.__wrapped__)
        assert inspect.signature(untyped.__init__) == written


@pytest.mark.parametrize("name", sorted({*NAMES, *(name for _, name in OLD)}))
def test_the_page_has_each(name: str) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", PAGE), name


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True,
        text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert told.stdout == "True 1\n", told


def test_the_extras_of_04() -> None:
    """``redis`` needs nothing more, ``all`` is all that is not for one framework or for developers
    of livingai."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert extras["redis"] == []
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    of_all = text.partition("# For all of livingai.\n")[2].partition("\ntest = [")[0]
    names = {line.partition(" =")[0] for line in of_all.splitlines() if " = [" in line} - {"all"}
    assert {"postgres", "redis"} <= names
    (everything,) = extras["all"]
    assert set(everything.removeprefix("livingai[").removesuffix("]").split(",")) == names
