"""Agent runs to checkpoint: recorded ones from a JSONL file, else made up.

A file has one JSON object a line with a list ``messages``; ``.gz`` is read as such. The state of an
agent after message *k* is its messages up to *k* as JSON, so a run is a series of growing states.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from livingai.demo.generator import Message, make_run
from livingai.errors import LivingAIError

#: Where recorded runs are looked for, from the root of the repository: ``../shared/data``.
DEFAULT_FOLDER: Final = Path(__file__).parents[3] / "shared" / "data"

_MAX_LINE_BYTES: Final = 64 << 20


class RunFileError(LivingAIError, ValueError):
    """A file of runs cannot be used."""


@dataclass(frozen=True, slots=True)
class MessageRun:
    """One agent's run: its ``execution_id`` and what was said."""

    execution_id: str
    messages: list[Message]

    def renamed(self, execution_id: str) -> MessageRun:
        """The same run under another id."""
        return MessageRun(execution_id, self.messages)

    def state(self, step: int) -> bytes:
        """The agent's state after message ``step`` (from 0)."""
        return json.dumps(self.messages[: step + 1], separators=(",", ":")).encode()


def recorded_files() -> list[str]:
    """The files in :data:`DEFAULT_FOLDER`, by name; none where there is no such folder."""
    return sorted(str(path) for path in DEFAULT_FOLDER.glob("*.jsonl.gz"))


def load_runs(path: str | os.PathLike[str], count: int) -> list[list[Message]]:
    """The messages of the first ``count`` runs of a file, fewer if it has fewer.

    Raises:
        RunFileError: it cannot be read, or a line is not what it should be (the message says which
            line and what is expected).
    """
    runs = []
    try:
        for number, line in enumerate(_lines(path), start=1):
            if line.strip():
                runs.append(_messages(line, f"{os.fspath(path)}, line {number}"))
                if len(runs) == count:
                    break
    except (OSError, EOFError, zlib.error) as error:
        raise RunFileError(f"cannot read {os.fspath(path)}: {error}") from error
    if not runs:
        raise RunFileError(f"{os.fspath(path)} has no runs: expected one JSON object per line")
    return runs


def _lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    name = os.fspath(path)
    with gzip.open(name) if name.endswith(".gz") else open(name, "rb") as file:
        while line := file.readline(_MAX_LINE_BYTES):
            yield line


def _messages(line: bytes, where: str) -> list[Message]:
    try:
        parsed: Any = json.loads(line)
    except ValueError as error:
        raise RunFileError(f"{where} is not JSON: {error}") from error
    messages = parsed.get("messages") if isinstance(parsed, dict) else None
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(message, dict) for message in messages)
    ):
        raise RunFileError(
            f'{where} has no messages: expected {{"messages": [{{"role": ..., "content": ...}}]}}'
        )
    return messages


def choose_runs(path: str | None, count: int, seed: int) -> tuple[list[MessageRun], str]:
    """``count`` runs with ids of their own, and where they come from in words.

    They come from ``path``, else from the recorded files, else from the generator. A file with
    fewer runs is used again from its beginning.

    Raises:
        RunFileError: ``path`` cannot be used.
    """
    paths = [path] if path is not None else recorded_files()
    found: list[list[Message]] = []
    for each in paths:
        if len(found) < count:
            found += load_runs(each, count - len(found))
    if found:
        names = ", ".join(os.path.basename(each) for each in paths)
        source = f"recorded runs of {names}"
    else:
        found = [make_run(f"{seed}/{number}", 16 + number * 7 % 25) for number in range(count)]
        source = f"made-up runs, seed {seed}"
    return [
        MessageRun(f"run-{number:03d}", found[number % len(found)]) for number in range(count)
    ], source
