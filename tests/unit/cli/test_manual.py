"""The manual page has all commands and options, and groff reads it."""

from __future__ import annotations

import shutil
import subprocess

import click
import pytest

from docs.manual import escaped, manual
from livingai.cli.main import COMMANDS, main

PAGE = manual()


@pytest.mark.parametrize("name", COMMANDS)
def test_it_has_each_command_with_its_options(name: str) -> None:
    begin = PAGE.index(f'.SS "livingai {escaped(name)} ')
    section = PAGE[begin : PAGE.find(".SS ", begin + 1)]
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert escaped(option) in section, option


def test_each_command_is_listed_by_its_purpose_once() -> None:
    listed = [name for _, names in main.by_purpose() for name in names]
    assert sorted(listed) == sorted(COMMANDS)


def test_no_text_is_a_request_of_groff() -> None:
    known = (".TH", ".SH", ".SS", ".PP", ".TP", ".B ", ".nf", ".fi")
    requests = [line for line in PAGE.splitlines() if line.startswith((".", "'"))]
    assert all(line.startswith(known) for line in requests)
    assert escaped(".so /etc/passwd") == "\\&.so /etc/passwd"


def test_groff_has_nothing_to_complain_of() -> None:
    if shutil.which("groff") is None:
        pytest.skip("no groff here")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww"], input=PAGE, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "livingai" in done.stdout
