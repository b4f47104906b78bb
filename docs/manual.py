"""``make man``: the manual page, livingai(1), from the texts of the commands.

One page has all commands, in the order and below the headings of ``livingai --help``. It is made
from click's objects, so what a command says of itself and what the page says of it is one text.
``python -m docs.manual [FILE]`` writes it; the format is that of man(7).
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from livingai._version import __version__
from livingai.cli.exit_status import ExitStatus
from livingai.cli.main import COMMANDS, main

_STATUSES = {
    ExitStatus.WELL: "All is well.",
    ExitStatus.PROBLEM: "A problem was found, or the command failed.",
    ExitStatus.USAGE: "The command line makes no sense.",
    ExitStatus.UNREACHABLE: "A database, a store or a service cannot be reached.",
    ExitStatus.DATA: "What is there is damaged, or of a newer livingai.",
}
_VARIABLES = {
    "LIVINGAI_STORE": "The store, where neither an argument nor --store names one.",
    "NO_COLOR": "If it is set to anything, nothing is coloured.",
    "COLUMNS": "The width of tables where the output is no terminal.",
}


def escaped(text: str) -> str:
    """Text as groff takes it: hyphens that are copied as such, and no requests."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def manual() -> str:
    """The page."""
    context = click.Context(main, info_name="livingai")
    lines = [
        f'.TH LIVINGAI 1 "" "livingai {__version__}" "User Commands"',
        ".SH NAME",
        "livingai \\- " + escaped("write-behind persistence for AI agents"),
        ".SH SYNOPSIS",
        ".B livingai",
        escaped("[OPTIONS] COMMAND [ARGS]..."),
        ".SH DESCRIPTION",
        *_paragraphs(main.help),
    ]
    for title, names in main.by_purpose():
        lines.append(f".SH {escaped(title.upper())}")
        for name in names:
            lines += _command(name, context)
    lines.append(".SH EXIT STATUS")
    for status, what in _STATUSES.items():
        lines += [".TP", f".B {int(status)}", escaped(what)]
    lines.append(".SH ENVIRONMENT")
    for variable, what in _VARIABLES.items():
        lines += [".TP", f".B {variable}", escaped(what)]
    return "\n".join(lines) + "\n"


def _command(name: str, parent: click.Context) -> list[str]:
    command = COMMANDS[name].load()
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f'.SS "livingai {escaped(name)} {escaped(usage)}"', *_paragraphs(command.help)]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            head, text = record
            lines += [".TP", f".B {escaped(head)}", escaped(" ".join(text.split()))]
    return lines


def _paragraphs(text: str | None) -> list[str]:
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        body = paragraph.strip("\n")
        if body.startswith("\b"):  # click's mark of lines that are not to be filled
            lines += [".PP", ".nf", escaped(body.lstrip("\b").strip("\n")), ".fi"]
        else:
            lines += [".PP", escaped(body)]
    return lines


def _main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "build/man/livingai.1")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(manual(), encoding="utf-8")


if __name__ == "__main__":
    _main()
