"""What holds for all tests of this folder: which warnings fail, and that each framework is in a
version that its adapter takes."""

from __future__ import annotations

import tomllib
import warnings
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.support.agents import ROOT


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
    ours = {"bench", "lint", "postgres", "test"}
    wrong = []
    for each in (Requirement(text) for extra in extras.keys() - ours for text in extras[extra]):
        try:
            installed = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            continue
        if not each.specifier.contains(installed, prereleases=True):
            wrong.append(f"{each.name} {installed} is not in {each.specifier}")
    assert not wrong
