"""The output: a progress bar in a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_LINES: Final = 10
_REFRESH_S: Final = 0.1


class Screen:
    """Progress of the runs; use as a context manager."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._printed = 0
        self._drawn = 0
        self._drawn_at = 0.0
        self._progress: Progress | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(),
                TimeElapsedColumn(), console=console, transient=True,
                auto_refresh=False,  # its thread would get signals that interrupts_held blocks
            )  # fmt: skip
            self._task = self._progress.add_task("states saved", total=total)

    def __enter__(self) -> Screen:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, done: int) -> None:
        """Show that ``done`` states are saved."""
        if self._progress is not None:
            last = done == self._total > self._drawn
            if last or time.monotonic() - self._drawn_at > _REFRESH_S:
                self._drawn, self._drawn_at = done, time.monotonic()
                self._progress.update(self._task, completed=done, refresh=True)
        elif done * _LINES // self._total > self._printed:
            self._printed = done * _LINES // self._total
            self._console.print(f"{done} of {self._total} states saved")

    def say(self, text: str) -> None:
        """Print a line about an event."""
        self._console.print(text, highlight=False)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share ``q`` of all lies; 0.0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def print_table(console: Console, rows: list[tuple[str, str]]) -> None:
    """Print the summary: a name and a value per row."""
    table = Table(show_header=False, title="livingai demo", title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, highlight=False)
