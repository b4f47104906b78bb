"""The examples for frameworks: each runs in an empty folder, without key or network."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.agents import ROOT
from tests.support.patience import patience
from tests.support.waiting import is_running, until

EXAMPLES = sorted((ROOT / "examples" / "frameworks").glob("*.py"))
#: Packages that are installed with the tests, or lie beside them.
OURS = {*sys.stdlib_module_names, "livingai"}


def imported(source: str) -> set[str]:
    """The modules of others that a program imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name for name in names if name.partition(".")[0] not in OURS}


def of_another_version(source: str) -> list[str]:
    """The frameworks whose adapters a program imports, and that are here in a version that these
    refuse: the other environment has the right one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    adapters = re.findall(r"^from livingai\.adapters\.(\w+)", source, flags=re.MULTILINE)
    needed = [
        Requirement(each)
        for name in adapters
        for each in project["optional-dependencies"].get(name.replace("_", "-"), ())
    ]
    return [
        f"{each.name} {version(each.name)}"
        for each in needed
        if not each.specifier.contains(version(each.name))
    ]


def foreign(source: str) -> set[str]:
    """Their packages, by their top-level names."""
    return {name.partition(".")[0] for name in imported(source)}


def is_installed(module: str) -> bool:
    """Whether a module is installed: its package may be there without it, in an earlier version.
    Looks for its file, and imports nothing."""
    top, *parts = module.split(".")
    spec = importlib.util.find_spec(top)
    places = None if spec is None else spec.submodule_search_locations
    if not parts or places is None:
        return spec is not None
    return any(
        path.is_dir() or any(path.parent.glob(f"{path.name}.*"))
        for path in (Path(place, *parts) for place in places)
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_example_hides_a_package(path: Path) -> None:
    """A program's folder is the first one that its imports look into."""
    assert not {each.stem for each in EXAMPLES} & foreign(path.read_text())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    source = path.read_text()
    missing = [name for name in sorted(imported(source)) if not is_installed(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed here")
    if others := of_another_version(source):
        pytest.skip(f"{', '.join(others)}: not a version for its adapter")
    assert f"python examples/frameworks/{path.name}" in source
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    [shown] = re.findall(r"^shown: .+$", done.stdout, flags=re.MULTILINE)
    assert done.stdout.rstrip().endswith(shown), "what it has shown is its last line"
    pids = [
        int(pid)
        for log in folder.rglob("*-livingai/service.lock")
        for pid in re.findall(r'"pid": (\d+)', log.read_text())
    ]
    until(lambda: not any(map(is_running, pids)), what="end of the service", timeout=30)
