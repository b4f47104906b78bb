"""The HTML page: one file with its images in it, readable without scripts and a network."""

from __future__ import annotations

import base64
from html import escape
from typing import Any, Final

from bench.report import html_tables, plots
from bench.report.cells import Group, by_processes, groups_of
from bench.results import Document
from bench.rows import short, title_of

_STYLE: Final = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 64rem; padding: 2.5rem 1.25rem 4rem; color: #1f2933;
  background: #fff; font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.75rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid #e4e7eb; }
h3 { font-size: .95rem; margin: 1.5rem 0 .25rem; }
p { max-width: 46rem; } .quiet, figcaption, caption { color: #616e7c; }
code { background: #f5f7fa; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
nav a { margin-right: .9rem; white-space: nowrap; } a { color: #0b6e4f; }
figure { margin: .75rem 0; } img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .25rem; }
th, td { padding: .22rem .7rem .22rem 0; border-bottom: 1px solid #e4e7eb; text-align: right;
  vertical-align: bottom; }
thead th { border-bottom: 1px solid #9aa5b1; font-weight: 600; }
tbody th { text-align: left; font-weight: 400; white-space: nowrap; }
th:first-child { text-align: left; }
summary { cursor: pointer; color: #0b6e4f; }
@media print { .wide { overflow: visible; } details > * { display: block; } }
"""
_READ: Final = """
<p>CPU per save is user and system time of all processes that take part: agents, the service, and
the database server where there is one. It is the figure to compare: times vary with what else the
machine does. <em>Held</em> is how long <code>save</code> kept the agent, <em>stored</em> how long
it took until the store had the state. A peer without write-behind holds the agent until then; where
it blocks the event loop, the other agents, too: they are ready to save and cannot. Every column had
the same states, in the same run, in turns. Closed: each agent waits for its state to be stored
before its next save. Paced: each saves at its times. Burst: all at once, waiting at the end. A
limit is the bare call without history, fencing or outcomes; it bounds what is possible.</p>
"""


class Page:
    """A page of a document. ``images`` are its plots by file name, once :meth:`html` was called."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.images: dict[str, bytes] = {}

    def html(self) -> str:
        """The page.

        Raises:
            PlotsMissingError: matplotlib is not installed.
        """
        groups = list(groups_of(self._document))
        sections = [(group.key, self._section(group)) for group in groups]
        for key, several in by_processes(groups).items():
            image = self._image(f"{key}-throughput", plots.throughput, several)
            text = _heading(f"{key}-throughput", f"{several[0].tier['name']}: agent processes")
            text += image + html_tables.throughput(several)
            sections.append((f"{key}-throughput", text))
        sections += self._rest()
        links = " ".join(f'<a href="#{key}">{escape(key)}</a>' for key, _ in sections)
        machine = {key: _fact(key, value) for key, value in self._document["machine"].items()}
        command = self._document.get("command", "make bench")
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>livingai: benchmark</title><style>{_STYLE}</style></head><body>"
            "<h1>livingai: benchmark</h1>"
            f'<p class="quiet">Measured by <code>{escape(command)}</code></p>'
            f"{_READ}<nav>{links}</nav>"
            + "".join(text for _, text in sections)
            + _heading("machine", "The machine")
            + html_tables.pairs("fact", machine)
            + "</body></html>\n"
        )

    def _section(self, group: Group) -> str:
        title = f"{title_of(group.tier, group.processes)}, {group.mode}"
        text = _heading(group.key, title) + html_tables.brief(group)
        text += self._image(f"{group.key}-cpu", plots.cpu_bars, group)
        text += html_tables.cpu(group)
        text += self._image(f"{group.key}-latency", plots.distributions, group)
        text += html_tables.quantiles(group)
        if any("save_cpu_ms" in cell.curves for cell in group.cells):
            text += self._image(f"{group.key}-steps", plots.along_steps, group)
            text += _folded("Every twentieth of the steps", html_tables.along_steps(group))
        if stopped := [cell for cell in group.cells if "outage_s" in cell.curves]:
            text += self._image(f"{group.key}-time", plots.outage, group)
            tables = "".join(html_tables.over_time(cell) for cell in stopped)
            text += _folded("Saves over time", tables)
        return text + _folded("All figures", html_tables.figures(group))

    def _rest(self) -> list[tuple[str, str]]:
        """What has no agents: reads, and the cold start."""
        found = []
        if reads := self._document.get("reads"):
            names = dict.fromkeys(key.rpartition(" ")[0] for key in reads)
            rows = [
                [name, *(short(reads[f"{name} {kind}"]) for kind in ("p50_us", "p99_us"))]
                for name in names
            ]
            text = html_tables.table(["read of the newest state", "p50, µs", "p99, µs"], rows)
            found.append(("reads", _heading("reads", "Reads") + text))
        if cold := self._document.get("cold"):
            rows = [[name.replace("_", " "), html_tables.spread_text(cold[name])] for name in cold]
            text = html_tables.table(["a fresh directory, then at rest", "median (range)"], rows)
            found.append(("cold", _heading("cold", "Cold start and idle service") + text))
        return found

    def _image(self, name: str, plot: Any, *arguments: Any) -> str:
        image = plots.draw(plot, *arguments)
        self.images[f"{name}.png"] = image
        data = base64.b64encode(image).decode()
        about = escape(" ".join((plot.__doc__ or "").split()))
        return (
            f'<figure><img src="data:image/png;base64,{data}" alt="{about}">'
            f"<figcaption>{about}</figcaption></figure>"
        )


def _heading(key: str, title: str) -> str:
    return f'<h2 id="{escape(key)}">{escape(title)}</h2>'


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{text}</details>"


def _fact(key: str, value: object) -> object:
    if key == "memory_bytes" and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return value
