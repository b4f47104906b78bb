"""A command's module is imported when the command is called; help and version import none."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from livingai.cli.main import COMMANDS, main
from tests.support.patience import patience

#: Slow to import, and of no use to `--help` and `--version`.
HEAVY = (
    "apsw", "asyncio", "livingai.engine", "livingai.queue", "livingai.stores", "msgpack", "psutil",
    "redis", "rich", "zstandard",
)  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("no-such-command",)], ids=lambda a: a[0]
)
def test_imports_neither_engine_nor_stores(arguments: tuple[str, ...]) -> None:
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['livingai', *{arguments!r}]\n"
        "try:\n    runpy.run_module('livingai', run_name='__main__')\n"
        "except SystemExit as end:\n    print('exit', end.code)\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=True,
    )
    status = 2 if arguments == ("no-such-command",) else 0
    assert f"exit {status}" in ran.stdout, ran.stderr
    assert "loaded []" in ran.stdout
    if arguments == ("--help",):
        for name, command in COMMANDS.items():
            assert re.search(rf"^  {name} +{re.escape(command.short_help)}$", ran.stdout, re.M)


def test_a_called_command_is_loaded() -> None:
    code = (
        "import sys\n"
        "from livingai.cli.main import main\n"
        "main(['check', '--help'], standalone_mode=False)\n"
        "print('loaded', 'livingai.inspection.check' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=True,
    )
    assert "loaded True" in ran.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_the_table_has_it(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert isinstance(command, click.Command)
    assert command.name == name, "the name that it is called by is the name that its usage shows"
    assert command.help, "a command explains itself"
    assert len(COMMANDS[name].short_help) <= 60
