"""CONTRIBUTING.md, .editorconfig and the pre-commit hooks agree with the repository."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.agents import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
#: What is in backquotes and looks like a path: with a slash, or the name of a file.
PATHS = sorted(
    {
        name
        for name in re.findall(r"`([^`\s]+)`", TEXT)
        if re.fullmatch(r"[\w./-]+", name) and ("/" in name or re.search(r"\.(md|toml|py)$", name))
        if not name.startswith(".venv")
    }
)
#: Names of files that are to be made, or that several folders have.
TO_BE_MADE = {"store.py", "__init__.py"}
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text()


def test_there_are_paths_to_look_for() -> None:
    assert len(PATHS) > 30


@pytest.mark.parametrize("path", sorted(set(PATHS) - TO_BE_MADE))
def test_a_file_that_is_named_exists(path: str) -> None:
    found = ROOT / path
    assert found.exists(), f"CONTRIBUTING.md names {path}, which does not exist"
    assert found.is_dir() == path.endswith("/"), "folders are named with a slash, files without"


@pytest.mark.parametrize(
    ("path", "names"),
    {
        "livingai/cli/main.py": ["COMMANDS"],
        "livingai/cli/where.py": ["find", "engine_on"],
        "livingai/codecs/__init__.py": ["_encode_alone", "_WITH_BASE", "decode", "encode"],
        "livingai/codecs/blob.py": ["Codec"],
        "tests/support/blobs.py": ["CODECS"],
        "tests/unit/codecs/test_format.py": ["GOLDEN"],
        "livingai/cli/service.py": ["--codec"],
    }.items(),
)
def test_a_name_that_is_to_be_changed_exists(path: str, names: list[str]) -> None:
    assert path in PATHS
    text = (ROOT / path).read_text()
    for name in names:
        assert f"`{name}`" in TEXT
        assert re.search(rf"(?:^|[^\w-]){re.escape(name)}\b", text), f"{path} has no {name}"


def test_a_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"(?:`|^    )make ([a-z]+)", TEXT, re.MULTILINE))
    made = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"venv", "test", "lint", "format", "bench"} <= targets <= made


def test_the_hooks_run_what_make_lint_runs() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    linted = re.findall(r"\$\(BIN\)/(.+?)(?: \.)?\n", recipe + "\n")
    entries = re.findall(r"entry: \.venv/bin/(.+)", HOOKS)
    hooks = [entry.removesuffix(" --force-exclude") for entry in entries]
    assert hooks == linted
    assert re.findall(r"repo: (\S+)", HOOKS) == ["local"], "hooks need no network"
    assert set(re.findall(r"language: (\S+)", HOOKS)) == {"system"}


def test_the_editors_settings_are_those_of_the_files() -> None:
    settings = configparser.ConfigParser()
    settings.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    every = settings["*"]
    assert int(every["max_line_length"]) == 100
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    files = [ROOT / name for name in listed.stdout.splitlines()] or [*ROOT.glob("*.md")]
    for path in files:
        if path.is_file() and not path.is_symlink() and path.suffix in {".py", ".md", ".toml"}:
            check_text(path)


def check_text(path: Path) -> None:
    data = path.read_bytes()
    assert b"\r" not in data, path
    assert not data or data.endswith(b"\n"), path
    assert not re.search(rb"[ \t]\n", data), path
