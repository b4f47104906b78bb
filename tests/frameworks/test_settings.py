"""What holds for all tests of this folder: which warnings fail, and that each framework is in a
version that its adapter takes."""

from __future__ import annotations

import importlib
import tomllib
import warnings
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from livingai.errors import FrameworkVersionError
from tests.support.agents import ROOT

#: Pins a version of Pydantic AI that the adapter of that refuses.
HARNESS = "pydantic-ai-harness"


def version(distribution: str) -> str | None:
    """That of a distribution; None: it is not installed here."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@pytest.mark.skipif(version(HARNESS) is None, reason="its Pydantic AI is not installed here")
def test_an_adapter_refuses_a_version_that_another_framework_pins() -> None:
    with pytest.raises(FrameworkVersionError, match=r"livingai\[pydantic-ai\]"):
        importlib.import_module("livingai.adapters.pydantic_ai")


def warn(module: str, category: type[Warning] = DeprecationWarning) -> None:
    """As a line of that module does."""
    warnings.warn_explicit("going away", category, f"{module}.py", 1, module=module)


@pytest.mark.parametrize("module", ["acme.agents", "livingaids", "google.adk.livingai"])
def test_a_frameworks_warning_fails_nothing(module: str) -> None:
    warn(module)


@pytest.mark.parametrize("module", ["livingai", "livingai.adapters.acme", "tests.support.acts"])
def test_a_warning_of_ours_fails(module: str) -> None:
    with pytest.raises(DeprecationWarning, match="going away"):
        warn(module)


def test_what_the_interpreter_closes_for_others_fails_nothing() -> None:
    warn("livingai.engine.engine", ResourceWarning)


def test_an_environment_has_frameworks_that_are_supported() -> None:
    """Of the extras' frameworks, those that are installed here are in the ranges."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    ours = {"bench", "docs", "lint", "mcp", "postgres", "test", "test-running"}
    wrong = []
    for each in (Requirement(text) for extra in extras.keys() - ours for text in extras[extra]):
        installed = version(each.name)
        if installed is None or (each.name == "pydantic-ai-slim" and version(HARNESS)):
            continue
        if not each.specifier.contains(installed, prereleases=True):
            wrong.append(f"{each.name} {installed} is not in {each.specifier}")
    assert not wrong
