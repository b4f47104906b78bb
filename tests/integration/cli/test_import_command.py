"""``livingai import`` where the framework's savers are not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.support.place import Place
from tests.support.places import command


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_it_says_which_extra_is_missing(state_dir: Place, tmp_path: Path, kind: str) -> None:
    if importlib.util.find_spec("langgraph") is not None:
        pytest.skip("it is installed")
    source = tmp_path / "checkpoints.db"
    told = command(
        state_dir, "import", "--from", f"langgraph-{kind}", source, tmp_path / "t.db", "--dry-run"
    )
    assert told.returncode == 1
    assert f"pip install 'livingai[langgraph-{kind}]'" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr


def test_it_names_the_sources_that_there_are(state_dir: Place) -> None:
    told = command(state_dir, "import", "--from", "mongo", "a", "b")
    assert told.returncode == 2
    assert "langgraph-sqlite" in told.stderr
    assert "import " in command(state_dir, "--help").stdout
