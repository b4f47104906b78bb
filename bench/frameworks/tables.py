"""The figures in the terminal, and in the pages of docs/frameworks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.figures import Spread
from bench.frameworks.cases import OURS, Case
from bench.rows import short

Summary = dict[str, dict[str, Spread]]

PAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "frameworks"
_BEGIN: Final = "<!-- overhead -->"
_END: Final = "<!-- end of overhead -->"


def _spread(spread: Spread, factor: float = 1.0) -> str:
    middle, least, most = (
        short(value * factor) for value in (spread.median, spread.least, spread.most)
    )
    return middle if least == most else f"{middle} ({least}–{most})"


def _held(figures: dict[str, Spread]) -> str:
    p90 = short(figures["held_p90_us"].median)
    return f"{_spread(figures['held_p50_us'])}; {p90}"


def _stored(figures: dict[str, Spread]) -> str:
    stored = figures["stored_bytes"]
    return _spread(stored, 1e-6) if stored.median else "–"


def _ratios(summary: Summary, other: str) -> str:
    """livingai's held and CPU to that side's, of the same run."""
    ours = summary[OURS]
    return ", ".join(
        f"{_spread(ours[key])}"
        for key in (f"held_p50_us to {other}", f"cpu_us to {other}")
        if key in ours
    )


def rows_of(case: Case, summary: Summary) -> list[list[str]]:
    """A row for each side: its name, held, CPU, bytes, and how livingai compares with it."""
    rows = []
    for name in (OURS, *case.others):
        figures = summary[name]
        ratios = "" if name == OURS else _ratios(summary, name)
        cpu = f"{_spread(figures['cpu_us'])}; {short(figures['program_cpu_us'].median)}"
        rows.append([name, _held(figures), cpu, _stored(figures), ratios])
    return rows


_HEADINGS: Final = (
    "", "held p50; p90, µs", "CPU per step; of it the program's, µs", "stored, MB",
    "livingai's held, CPU to it",
)  # fmt: skip


def print_case(console: Console, case: Case, summary: Summary) -> None:
    """A table of one case."""
    title = f"{case.framework}, {case.name}: {case.step} ({case.steps} steps)"
    table = Table(title=title, title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows_of(case, summary):
        table.add_row(*row)
    console.print(table)


def write_pages(
    found: Sequence[tuple[Case, Summary]], machine: dict[str, Any], runs: int
) -> list[Path]:
    """Put the tables into the pages, between the marks; the pages that were written.

    Raises:
        ValueError: a page has no marks.
    """
    written = []
    for page in dict.fromkeys(case.page for case, _ in found):
        path = PAGES / f"{page}.md"
        of_page = [(case, summary) for case, summary in found if case.page == page]
        lines = ["| " + " | ".join(("step", *_HEADINGS)) + " |", "|---|---|---|---|---|---|"]
        for case, summary in of_page:
            for number, row in enumerate(rows_of(case, summary)):
                step = f"{case.step}, {case.steps:,} times" if number == 0 else ""
                lines.append("| " + " | ".join([step, *row]) + " |")
        lines.append("")
        lines.append(
            f"{runs} run{'s' if runs > 1 else ''}, {machine['date']}, commit "
            f"{machine['commit']}, {machine['cpus_usable']} cores, load {machine['load_1min']} "
            f"at the begin, {machine['file_system']}, Python {machine['python']}, SQLite "
            f"{machine['sqlite']}."
        )
        text = path.read_text(encoding="utf-8")
        pattern = re.compile(f"{re.escape(_BEGIN)}\n.*?{re.escape(_END)}", re.DOTALL)
        found_at = pattern.search(text)
        if found_at is None:
            raise ValueError(f"{path} has no place for figures: {_BEGIN} and {_END}")
        block = "\n".join([_BEGIN, *lines, _END])
        text = text[: found_at.start()] + block + text[found_at.end() :]
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written
