"""Figures of frameworks: from runs to tables, and into the pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.frameworks import tables
from bench.frameworks.cases import CASES, OURS, Case
from bench.frameworks.measure import Run, summary_of
from bench.frameworks.tables import PAGES, rows_of, write_pages

CASE = Case("langgraph", "page", "langgraph", "chat", "aput", ("Other", "InMemory"), steps=1000)
MACHINE = {
    "date": "today", "commit": "abc", "cpus_usable": 2, "load_1min": 0.5, "file_system": "ext4",
    "python": "3.11", "sqlite": "3",
}  # fmt: skip


def run_of(held_us: float) -> Run:
    of_all = {
        "held_p90_us": 900.0,
        "cpu_us": 100.0,
        "program_cpu_us": 40.0,
        "stored_bytes": 2_000_000.0,
    }
    ratios = {"held_p50_us to Other": held_us / 400, "cpu_us to Other": 1.0}
    return {
        OURS: {"held_p50_us": held_us, **of_all, **ratios},
        "Other": {"held_p50_us": 400.0, **of_all},
        "InMemory": {"held_p50_us": 400.0, **of_all, "stored_bytes": 0.0},
    }


def test_a_row_has_medians_ranges_and_ratios() -> None:
    ours, other, memory = rows_of(CASE, summary_of([run_of(100), run_of(200), run_of(300)]))
    assert ours == [OURS, "200 (100–300); 900", "100; 40", "2", ""]
    assert other == ["Other", "400; 900", "100; 40", "2", "0.500 (0.250–0.750), 1"]
    assert memory[3:] == ["–", ""]


def test_pages_get_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PAGES", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- overhead -->\nold\n<!-- end of overhead -->\nbehind\n")
    found = [(CASE, summary_of([run_of(100)]))]
    for _ in range(2):  # the second time it replaces what it has written
        assert write_pages(found, MACHINE, 1) == [page]
    text = page.read_text()
    assert text.startswith("before\n<!-- overhead -->\n| step |")
    assert text.count("| aput, 1,000 times | livingai | 100; 900 |") == 1
    assert "old" not in text
    assert text.endswith("<!-- end of overhead -->\nbehind\n")
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place"):
        write_pages(found, MACHINE, 1)


@pytest.mark.parametrize("page", sorted({case.page for case in CASES}))
def test_every_page_has_a_place_for_figures(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text()
    assert text.count("<!-- overhead -->\n") == text.count("<!-- end of overhead -->\n") == 1
