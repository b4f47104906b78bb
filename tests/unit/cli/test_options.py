"""Errors in command line options name the option as it was typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from livingai.cli.main import main
from livingai.cli.where import Days


def commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every command and the words that call it."""
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(command, (*path, name))
    else:
        yield group, path


def bad_values(kind: Any) -> list[str]:
    if isinstance(kind, click.Choice):
        return ["done", "", "SUCCES"]
    if isinstance(kind, Days):
        return ["0", "-1", "nan", "inf", "-inf", "1e306", "soon", "", "1,5"]
    if isinstance(kind, click.IntRange):
        over = [] if kind.max is None else [str(int(kind.max) + 1)]
        return [str(int(kind.min or 0) - 1), "1.5", "x", "", *over]
    if kind in (click.INT, click.FLOAT):
        return ["x", ""]
    return []


CASES = [
    pytest.param(path, command, option, option.opts[0], value, id=f"{path}{option.opts[0]}={value}")
    for command, path in commands(main)
    for option in command.params
    if isinstance(option, click.Option)
    for value in bad_values(option.type)
]


def test_there_are_options_to_try() -> None:
    tried = {case.values[3] for case in CASES}
    assert {"--expire", "--max-age", "--keep-last", "--status", "--codec", "--writers"} <= tried


@pytest.mark.parametrize(("path", "command", "option", "typed", "value"), CASES)
def test_a_bad_value_is_reported_with_its_option(
    path: tuple[str, ...], command: click.Command, option: click.Option, typed: str, value: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    some_file = tmp_path / "file"
    some_file.touch()
    arguments = [str(some_file) for p in command.params if isinstance(p, click.Argument)]
    result = CliRunner().invoke(main, [*path, *arguments, f"{typed}={value}"])
    assert result.exit_code == 2, result.output
    assert f"Invalid value for '{typed}'" in result.output
    assert "_s " not in result.output, "the name of a setting was not typed"
    assert "Traceback" not in result.output


def test_prune_without_a_rule_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["prune", str(tmp_path / "a.db"), "--status", "success"])
    assert result.exit_code == 2
    assert "--keep-last, --max-age or --expire" in result.output
