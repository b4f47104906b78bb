"""What the lines of an export say, one after the other, and which may follow on which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from livingai.archives.files import UNREADABLE
from livingai.archives.lines import FORMAT, ExportedWrite, parsed, read_write
from livingai.errors import ImportSourceError


@dataclass(frozen=True, slots=True)
class RunBegins:
    """What follows is of this run."""

    run: str


@dataclass(frozen=True, slots=True)
class RunEnds:
    """The run is complete."""

    run: str


@dataclass(frozen=True, slots=True)
class RunLeftOut:
    """The run could not be read as it was exported; what came of it does not count."""

    run: str
    why: str


Event = RunBegins | RunEnds | RunLeftOut | ExportedWrite


def events(source: IO[bytes], most: int) -> Iterator[tuple[int, Event]]:
    """What the lines say, with their numbers. Raises ImportSourceError."""
    grammar = Grammar()
    number = 0
    while True:
        number += 1
        try:
            raw = source.readline(most)
        except UNREADABLE as error:
            raise ImportSourceError(f"line {number}: it cannot be read: {error}") from error
        if not raw:
            break
        try:
            if len(raw) >= most and not raw.endswith(b"\n"):
                raise ValueError(f"it has more than {most} bytes; raise max_state_bytes")
            event = grammar.take(*parsed(raw))
        except ValueError as error:
            raise ImportSourceError(f"line {number}: {error}") from error
        if event is not None:
            yield number, event
    if not grammar.finished:
        what = "there is nothing in it" if number == 1 else "the export ends here, cut short"
        raise ImportSourceError(f"line {number}: {what}")


class Grammar:
    """Which line may follow on which."""

    def __init__(self) -> None:
        self.finished = False
        self._begun = False
        self._complete = 0
        self._run: str | None = None
        self._writes = 0
        self._last = (0, 0)

    def take(self, kind: str, content: object) -> Event | None:
        """What a line says; None: nothing to be done. Raises ValueError."""
        if self.finished:
            raise ValueError("it comes behind the end of the export")
        if not self._begun:
            self._head(kind, content)
            return None
        if self._run is None:
            return self._between(kind, content)
        return self._inside(self._run, kind, content)

    def _head(self, kind: str, content: object) -> None:
        if kind != "livingai" or not isinstance(content, dict):
            raise ValueError("this is no export of livingai's")
        if content.get("format") != FORMAT:
            raise ValueError(
                f"the export has format {content.get('format')!r:.50}, and this livingai knows "
                f"{FORMAT}: upgrade livingai to read it"
            )
        self._begun = True

    def _between(self, kind: str, content: object) -> RunBegins | None:
        if kind == "runs":
            if type(content) is not int or content != self._complete:
                raise ValueError(
                    f"{self._complete} complete runs are here, and there were {content!r:.50}"
                )
            self.finished = True
            return None
        if kind != "run" or not isinstance(content, str) or not content:
            raise ValueError(f"{kind!r:.50} is not what comes here: a run begins, or the end")
        content.encode()  # a UnicodeEncodeError is a ValueError
        self._run, self._writes, self._last = content, 0, (0, 0)
        return RunBegins(content)

    def _inside(self, run: str, kind: str, content: object) -> Event:
        if kind == "write":
            write = read_write(content, run)
            if (write.epoch, write.seq) <= self._last:
                raise ValueError("it is not behind the write before it")
            self._last = (write.epoch, write.seq)
            self._writes += 1
            return write
        if kind not in ("end", "left_out") or not isinstance(content, dict):
            raise ValueError(f"{kind!r:.50} is not what comes here: run {run!r:.200} has not ended")
        if content.get("run") != run:
            raise ValueError(f"it is the end of another run than {run!r:.200}")
        self._run = None
        if kind == "left_out":
            return RunLeftOut(run, str(content.get("why")))
        if content.get("writes") != self._writes:
            raise ValueError(
                f"run {run!r:.200} has {self._writes} writes here, and had "
                f"{content.get('writes')!r:.50}"
            )
        self._complete += 1
        return RunEnds(run)
