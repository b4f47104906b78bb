"""Adapters refuse a framework that is missing or of another version, and say what to install."""

from __future__ import annotations

import ast
import pickle
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from livingai.adapters.versions import require
from livingai.errors import FrameworkVersionError
from tests.support.agents import ROOT

ADAPTERS = ROOT / "livingai" / "adapters"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(folder: Path, version: str) -> None:
    """What an installer leaves of a distribution named Acme_Agents."""
    info = folder / f"acme_agents-{version}.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: Acme_Agents\nVersion: {version}\n"
    (info / "METADATA").write_text(text)


@pytest.mark.parametrize(
    "version", ["0.24", "0.24.0", "0.24.17", "0.24.1rc1", "0.24.1.post1", "0.24.0+local"]
)
def test_a_supported_version(installed: Path, version: str) -> None:
    install(installed, version)
    require("acme-agents", at_least="0.24", below="0.25", extra="acme")


@pytest.mark.parametrize(
    "version", ["0.3", "0.23.9", "0.24.0rc1", "0.25.0rc1", "0.25", "1.24", "1!0.24", "no number"]
)
def test_another_version(installed: Path, version: str) -> None:
    install(installed, version)
    with pytest.raises(FrameworkVersionError) as caught:
        require("acme-agents", at_least="0.24", below="0.25", extra="acme")
    told = str(caught.value)
    assert f"acme-agents {version} is installed" in told
    assert "from 0.24 to below 0.25" in told
    assert "pip install 'livingai[acme]'" in told


def test_no_version() -> None:
    with pytest.raises(ImportError, match="acme-agents, which is not installed") as caught:
        require("acme-agents", at_least="0.24", below="0.25", extra="acme")
    assert "pip install 'livingai[acme]'" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# -- the calls of the adapters, and the extras --


def calls() -> Iterator[tuple[str, dict[str, str]]]:
    """Where ``require`` is called, and with what."""
    for path in sorted(ADAPTERS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                [distribution] = node.args
                given = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield place, {"distribution": ast.literal_eval(distribution), **given}


def test_an_extra_installs_what_its_adapter_asks_for() -> None:
    extras = {
        (extra, Requirement(each).name): Requirement(each).specifier
        for extra, requirements in PROJECT["optional-dependencies"].items()
        for each in requirements
    }
    for place, given in calls():
        installs = extras.get((given["extra"], given["distribution"]))
        assert installs is not None, f"{place}: no extra of that name installs it"
        asked = SpecifierSet(f">={given['at_least']},<{given['below']}")
        assert installs == asked, f"{place}: the extra installs {installs}"


def test_the_frameworks_that_are_tested_are_supported() -> None:
    """Each pinned release of ``tests/frameworks`` that an extra names is in the extra's range."""
    ranges = {
        Requirement(each).name: Requirement(each).specifier
        for requirements in PROJECT["optional-dependencies"].values()
        for each in requirements
    }
    pinned = {}
    for path in sorted((ROOT / "tests" / "frameworks").glob("requirements-*.txt")):
        lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
        for each in map(Requirement, filter(None, lines)):
            [only] = each.specifier
            assert only.operator == "==", f"{path.name} does not pin {each.name}"
            pinned[each.name] = only.version
    frameworks = [name for name in ranges if name in pinned]
    assert len(frameworks) >= 10
    for name in frameworks:
        assert ranges[name].contains(pinned[name]), f"{name} {pinned[name]}: not in {ranges[name]}"


def test_the_page_lists_the_extras_with_what_they_are_tested_with() -> None:
    page = (ROOT / "docs" / "frameworks" / "README.md").read_text()
    rows = dict(re.findall(r"^\|[^|]+\| `livingai\[([\w-]+)\]` \|[^|]+\| ([^|]+) \|$", page, re.M))
    imports = {"langgraph-postgres", "langgraph-sqlite"}  # of `livingai import`
    others = {
        "all", "bench", "docs", "lint", "mcp", "metrics", "otel", "postgres", "redis", "test",
        "test-running",
    }  # fmt: skip
    extras = PROJECT["optional-dependencies"].keys() - others - imports
    assert rows.keys() == extras
    pinned = "".join(
        path.read_text() for path in (ROOT / "tests" / "frameworks").glob("requirements-*.txt")
    )
    for extra, versions in rows.items():
        names = [Requirement(each).name for each in PROJECT["optional-dependencies"][extra]]
        for name, version in zip(names, versions.split(", "), strict=True):
            assert f"\n{name}=={version}\n" in pinned, f"{name} is not tested with {version}"


def test_nothing_else_imports_a_framework() -> None:
    """What an adapter's module imports at its top is loaded with it alone: the package of all
    adapters imports nothing."""
    tree = ast.parse((ADAPTERS / "__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
