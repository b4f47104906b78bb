"""The page and its plots."""

from __future__ import annotations

import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.curves import SHARES
from bench.plan import arguments
from bench.report.__main__ import main
from bench.report.cells import by_processes, groups_of
from bench.report.page import Page
from bench.results import document_of, write
from bench.run import Measured
from bench.setting import Setting
from bench.stores import SQLITE, Target
from bench.tiers import TIERS

FIGURES = {
    "saves": 100.0, "saves_per_s": 50.0, "held_p50_ms": 0.25, "save_cpu_ms": 0.75, "total_s": 2.0,
    "agents_cpu_s": 0.05, "writers_cpu_s": 0.025, "recovered_of": 1.0,
    "recovered_cache": 1.0, "recovered_store": 1.0,
}  # fmt: skip
VALUES = [0.001 + share for share in SHARES]
CURVES = {"held_ms": VALUES, "stored_ms": [10 * value for value in VALUES]}
TWENTIETHS = [float(number) for number in range(20)]
TIMES = {"time_s": TWENTIETHS, "accepted": TWENTIETHS, "stored": TWENTIETHS, "outage_s": [3.0, 9.0]}


def measured(**more: Any) -> list[Measured]:
    return [Measured(FIGURES | {"total_s": total_s}, CURVES | more) for total_s in (1.0, 2.0, 4.0)]


def cell(tier: str, mode: Any, peer: str = "", processes: int = 1, store: str = SQLITE) -> Setting:
    return Setting(TIERS[tier], mode, peer, processes, "generated", 1, None, Target(store))


@pytest.fixture
def document() -> Any:
    results = {
        cell("production", "closed"): measured(),
        cell("production", "closed", store="valkey"): measured(),
        cell("production", "closed", "langgraph"): measured(),
        cell("production", "closed", "pwritev"): measured(),
        cell("fleet", "closed", processes=1): measured(),
        cell("fleet", "closed", processes=4): measured(),
        cell("long", "closed"): measured(save_cpu_ms=TWENTIETHS, stored_bytes=TWENTIETHS),
        cell("outage", "paced").stopped("store"): measured(**TIMES),
    }
    reads = {"own process p50_us": 1.5, "own process p99_us": 2.5}
    machine = {"cpus": 2, "memory_bytes": 24 << 30, "cpu_model": "<a & b>"}
    return document_of('make bench ARGS="--tier x"', machine, results, reads, [{"import_ms": 9.5}])


class Checked(HTMLParser):
    """Collects what a page has, and whether its tags are closed in order."""

    EMPTY = ("meta", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_but_itself(document: Any) -> None:
    page = Page(document)
    html = page.html()
    checked = Checked()
    checked.feed(html)
    assert checked.open == []
    assert len(checked.images) == len(page.images) > 8
    assert all(src.startswith("data:image/png;base64,") for src in checked.images)
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "script" not in checked.tags
    assert 'make bench ARGS="--tier x"' in checked.text
    assert "<a & b>" in checked.text
    assert "24.0 GiB" in checked.text
    assert "2 (1–4)" in checked.text  # total, s: median and range
    assert "own process" in checked.text
    anchors = re.findall(r'href="#([^"]+)"', html)
    assert set(anchors) <= set(re.findall(r'id="([^"]+)"', html))


def test_the_plots_are_images_with_a_table_each(document: Any) -> None:
    images = Page(document)
    html = images.html()
    names = set(images.images)
    assert {"production-closed-cpu.png", "production-closed-latency.png", "long-closed-steps.png",
            "outage-paced-time.png", "fleet-closed-throughput.png"} <= names  # fmt: skip
    for image in images.images.values():
        assert image.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", image[16:24])
        assert width > 600
        assert height > 150
    assert html.count("<table>") >= html.count("<img")


def test_groups_are_compared_with_each_other(document: Any) -> None:
    groups = list(groups_of(document))
    assert [group.key for group in groups] == [
        "production-closed", "fleet-closed", "fleet-closed-4", "long-closed", "outage-paced",
    ]  # fmt: skip
    first = groups[0]
    columns = [found.column for found in first.cells]
    assert columns == [
        "livingai", "livingai, valkey", "LangGraph AsyncSqliteSaver", "limit: bare pwritev",
    ]  # fmt: skip
    assert [found.ours for found in first.cells] == [True, True, False, False]
    assert groups[-1].cells[0].column == "livingai, store stopped"
    assert [group.processes for group in by_processes(groups)["fleet-closed"]] == [1, 4]


def test_the_command(document: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.json", document)
    assert main([str(tmp_path / "a.json"), "--to", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "b" / "report.html")
    written = {path.name for path in (tmp_path / "b").iterdir()}
    assert {"report.html", "figures.json", "production-closed-cpu.png"} <= written
    again = (tmp_path / "b" / "report.html").read_text()
    assert main([str(tmp_path / "b" / "figures.json")]) == 0
    assert (tmp_path / "b" / "report.html").read_text() == again
    assert main([str(tmp_path / "nothing.json")]) == 2
    assert "nothing.json" in capsys.readouterr().err


def test_the_table_of_the_readme(
    document: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.json", document)
    assert main([str(tmp_path / "a.json"), "--readme", "langgraph"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| SQLite | production, closed: 50 agents, 20 states to 100 KB |"
    assert "| total, s | 2 (2) |" in lines
    assert "| file pages made dirty, MB | – (–) |" in lines
    assert lines[-1] == "| recovered after a kill -9 | 1 of 1 |"
    assert main([str(tmp_path / "a.json"), "--readme", "dbos"]) == 0
    assert capsys.readouterr().out == ""


def test_options() -> None:
    assert arguments(["--report", "a"]).report == "a"
    assert arguments([]).report is None
