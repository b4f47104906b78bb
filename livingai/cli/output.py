"""How commands print: tables and lines for a person, JSON lines for a program.

Rules:

1. What comes from a run (ids, names, errors) may be hostile. Nothing of it reaches a terminal that
   this would obey: control characters, and those that turn the direction of text, are escaped.
2. On a terminal a line is cut to its width, and marked with ``…``. Into a file or a pipe it is not,
   unless ``COLUMNS`` says how wide it may be.
3. Colours only on a terminal, and not where ``NO_COLOR`` is set (https://no-color.org).
4. ``--json``: one object a line, keys as documented, times in seconds since the Unix epoch.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, TextIO

import click
from rich.cells import cell_len, set_cell_size

#: Categories of characters that are shown as ``\\x..``: controls, formats (direction marks), lone
#: surrogates, line and paragraph separators.
_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_STATUS_COLOURS: Final = {"failed": "red", "running": "yellow", "success": "green"}
#: A control character that JSON may have as it is.
_DELETE: Final = 0x7F
#: The last character that four digits name.
_BASIC: Final = 0xFFFF
_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_KILO: Final = 1000
#: Characters of a cell that are shown on a terminal of any width.
_LEAST_CELL: Final = 20
_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0


def printable(text: str) -> str:
    """``text`` without anything that a terminal obeys."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    number = ord(character)
    if number > _BASIC:
        return f"\\U{number:08x}"
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"


def printable_json(text: str) -> str:
    """JSON ``text`` without anything that a terminal obeys but its ends of lines. It means the
    same: what is escaped can only be in its strings."""
    return "\n".join("".join(map(_escaped_in_json, line)) for line in text.split("\n"))


def _escaped_in_json(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    return json.dumps(character)[1:-1] if ord(character) != _DELETE else "\\u007f"


def shell_word(text: str) -> str:
    """``text`` as one word for a shell, which nothing in it is a command for. What is not printable
    is escaped in ``$'...'``, which bash, zsh and ksh read."""
    if printable(text) == text:
        return "'" + text.replace("'", "'\\''") + "'"
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + "".join(map(_escaped_for_shell, quoted)) + "'"


def _escaped_for_shell(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED:
        return character
    return f"\\U{ord(character):08x}"


def json_line(value: Any) -> None:
    """Print an object on a line of its own."""
    click.echo(json.dumps(value, ensure_ascii=True, separators=(",", ":")))


def width() -> int | None:
    """How wide a line may be; None: as wide as it is."""
    if os.environ.get("COLUMNS", "").isdigit() or is_terminal():
        return shutil.get_terminal_size().columns
    return None


def is_terminal() -> bool:
    """Whether a terminal shows what is printed; a command's output may also be closed."""
    stream: TextIO | None = sys.stdout
    return stream is not None and stream.isatty()


def line(text: str, *, mark: str = "") -> None:
    """Print a line that may be cut; ``mark``: a status whose colour it has."""
    limit = width()
    if limit is not None and cell_len(text) > limit:
        text = set_cell_size(text, limit - 1).rstrip() + "…"
    click.echo(coloured(text, mark))


def coloured(text: str, status: str) -> str:
    """``text`` in the colour of a status, if there are colours."""
    colour = _STATUS_COLOURS.get(status)
    if colour is None or os.environ.get("NO_COLOR") or not is_terminal():
        return text
    return click.style(text, fg=colour)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows of text below a head, each column as wide as it has to be; those in ``right`` are
    numbers. Where lines are cut, a cell that takes more than half of one (an id that somebody
    made up) is cut to it, then lines from their end, as :func:`line` does. The second column is the
    status."""
    cleaned = [[printable(cell) for cell in row] for row in rows]
    if (limit := width()) is not None:
        most = max(_LEAST_CELL, limit // 2)
        cleaned = [[*(_cut(cell, most) for cell in row[:-1]), row[-1]] for row in cleaned]
    widths = [max(map(cell_len, column)) for column in zip(head, *cleaned, strict=True)]
    for row in (head, *cleaned):
        cells = [
            " " * (widths[at] - cell_len(cell)) + cell
            if at in right
            else cell + " " * (widths[at] - cell_len(cell))
            for at, cell in enumerate(row)
        ]
        line("  ".join(cells).rstrip(), mark=row[1] if row is not head else "")


def _cut(cell: str, most: int) -> str:
    return cell if cell_len(cell) <= most else set_cell_size(cell, most - 1).rstrip() + "…"


def size(count: float) -> str:
    """Bytes for a person: ``812 B``, ``3.4 KB`` (1 KB is 1,000 B)."""
    for unit in _UNITS:
        if count < _KILO or unit == _UNITS[-1]:
            break
        count /= _KILO
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def moment(at: float | None) -> str:
    """A time in local time; empty for None."""
    if at is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):  # a row that another program has changed
        return "?"


def duration(seconds: float | None) -> str:
    """Seconds for a person: ``4 ms``, ``2.5 s``, ``3 min``, ``1.2 h``; empty for None."""
    if seconds is None:
        return ""
    for limit, of, unit in (
        (1.0, 1e-3, "ms"), (_MINUTE_S, 1.0, "s"), (_HOUR_S, _MINUTE_S, "min"),
        (_DAY_S, _HOUR_S, "h"),
    ):  # fmt: skip
        if seconds < limit:
            return f"{seconds / of:.0f} {unit}" if unit == "ms" else f"{seconds / of:.1f} {unit}"
    return f"{seconds / _DAY_S:.1f} d"
