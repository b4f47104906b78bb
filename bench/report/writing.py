"""The files of a report."""

from __future__ import annotations

from pathlib import Path

from bench.report.page import Page
from bench.results import Document, write


def write_report(directory: str | Path, document: Document) -> Path:
    """Write ``report.html``, ``figures.json`` and the plots (PNG) to ``directory``, which is made
    if it is not there; the path of the page.

    Raises:
        PlotsMissingError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    place = Path(directory)
    page = Page(document)
    text = page.html()
    place.mkdir(parents=True, exist_ok=True)
    write(place / "figures.json", document)
    for name, image in page.images.items():
        (place / name).write_bytes(image)
    found = place / "report.html"
    found.write_text(text, encoding="utf-8")
    return found
