"""docs/running and the pages beside it: links, files, settings and commands that they name."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from livingai import EngineConfig, errors
from livingai.cli.main import COMMANDS
from livingai.errors import LivingAIError
from tests.support.agents import ROOT

RUNNING = sorted((ROOT / "docs" / "running").glob("*.md"))
BESIDE = [ROOT / "docs" / name for name in ("MIGRATING.md", "TROUBLESHOOTING.md", "FAQ.md")]
OUTSIDE = [ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md")]
PAGES = [*RUNNING, *BESIDE, *OUTSIDE]


def text_of(page: Path) -> str:
    """What is on a page."""
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """Where a link into a page may lead, as GitHub names headings."""
    heads = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {each.replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith(("http", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_is_named_is_there(page: Path) -> None:
    for name in re.findall(r"\b((?:tests|deploy|docs)/[\w./-]+\.\w+)", text_of(page)):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_is_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And takes what it is given."""
    monkeypatch.setenv("LIVINGAI_STORE", "agent.db")
    named = set(re.findall(r"`livingai ([a-z][a-z-]+)", text_of(page)))
    assert named <= COMMANDS.keys()
    for block in re.findall(r"^```sh\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("livingai "):
                _, name, *rest = shlex.split(line, comments=True)
                COMMANDS[name].load().make_context(name, rest)
    for name, line in re.findall(r"`livingai ([a-z][a-z-]+) ([^`]*)`", text_of(page)):
        if "--db" in line:  # of 0.4
            continue
        command = COMMANDS[name].load()
        params = command.get_params(click.Context(command))
        known = {option for each in params for option in each.opts}
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)) <= known, line


def test_the_index_has_each_page() -> None:
    index = text_of(ROOT / "docs" / "running" / "README.md")
    for page in RUNNING:
        assert page.name == "README.md" or f"]({page.name})" in index


def test_the_settings_of_the_tuning_table_are_settings() -> None:
    table = text_of(ROOT / "docs" / "running" / "sizing.md").partition("## What to turn")[2]
    columns = [line.split("|")[3] for line in table.splitlines() if line.count("|") == 4]
    named = {name for column in columns for name in re.findall(r"`([a-z]\w*_\w+|codec)\b", column)}
    fields = {each.name for each in dataclasses.fields(EngineConfig)}
    assert len(named) >= 10
    assert named <= fields


# -- troubleshooting --

CLASSES = [
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, LivingAIError)
]


def entries() -> dict[str, str]:
    """The page's entries by the class of the error."""
    parts = re.split(r"^### `(\w+)`\n", text_of(ROOT / "docs" / "TROUBLESHOOTING.md"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", CLASSES)
def test_each_error_has_an_entry(name: str) -> None:
    """With what it means and what to do."""
    entry = entries()[name]
    assert len(entry.split()) >= 12, entry
    assert re.search(r"^\*\*Do:\*\* ", entry, re.MULTILINE), entry


def test_each_entry_is_of_an_error() -> None:
    assert entries().keys() == set(CLASSES)


# -- hosts --

HOSTED = [
    *(ROOT / ".github").rglob("*.yml"),
    ROOT / ".gitlab-ci.yml",
]


@pytest.mark.parametrize("path", HOSTED, ids=lambda path: path.name)
def test_the_files_for_hosts_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(text_of(path)), dict)


def test_each_host_runs_what_is_run_here() -> None:
    """And all of its history is there, or the speed is not compared."""
    made = yaml.safe_load(text_of(ROOT / ".github" / "workflows" / "ci.yml"))
    steps = made["jobs"]["ci"]["steps"]
    assert "bash .ci/run" in [each.get("run") for each in steps]
    assert steps[0]["with"]["fetch-depth"] == 0
    job = yaml.safe_load(text_of(ROOT / ".gitlab-ci.yml"))["ci"]
    assert job["script"] == ["bash .ci/run"]
    assert job["variables"]["GIT_DEPTH"] == 0
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
