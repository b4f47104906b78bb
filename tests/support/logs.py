"""The logs of a test's processes: what in them is of our own, and not of a kill."""

from __future__ import annotations

import re

_TRACEBACK = "Traceback (most recent call last):"
#: What a process of the standard library's pool says whose parent was killed as it started it: the
#: parent's data ended, or the semaphores in it are gone.
_OF_A_KILLED_PARENT = re.compile(r"(EOFError: Ran out of input|FileNotFoundError: .*)$")
#: The frames of such a process are the standard library's alone.
_LIBRARY = re.compile(r"/multiprocessing/\w+\.py$|^<string>$")
_OURS = re.compile(r"\d{4}-\d\d-\d\d ")
_FRAME = re.compile(r'  File "(?P<path>[^"]+)", line \d+, in (?P<function>\S+)')


def own_text(text: str) -> str:
    """A log without what the standard library says after a SIGKILL: that its tracker removes
    semaphores, and that a process found no parent."""
    kept: list[str] = []
    lines = [line for line in text.splitlines() if "resource_tracker: " not in line]
    while lines:
        if lines[0] == _TRACEBACK:
            block, lines = _traceback(lines)
            if not _without_parent(block):
                kept += block
        else:
            kept.append(lines.pop(0))
    return "\n".join(kept)


def _traceback(lines: list[str]) -> tuple[list[str], list[str]]:
    """The traceback at the beginning of the lines, and what follows it. Several processes write to
    a log: lines of ours may stand within."""
    block, rest = lines[:1], lines[1:]
    between: list[str] = []
    while rest:
        line = rest.pop(0)
        if _OURS.match(line):
            between.append(line)
            continue
        block.append(line)
        if not line.startswith(" "):
            break
    return block, between + rest


def _without_parent(block: list[str]) -> bool:
    frames = [frame for line in block if (frame := _FRAME.match(line))]
    return (
        any(frame["function"] == "spawn_main" for frame in frames)
        and all(_LIBRARY.search(frame["path"]) for frame in frames)
        and _OF_A_KILLED_PARENT.match(block[-1]) is not None
    )
