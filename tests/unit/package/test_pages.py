"""Pages of the documentation that are made from the code, and the site's table of contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import FOLDER, PAGES
from livingai.config import EngineConfig
from tests.support.agents import ROOT


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_makes(name: str) -> None:
    made = PAGES[name]()
    assert (FOLDER / name).read_text("utf-8") == made, "run `python -m docs.pages`"


def test_each_setting_is_explained() -> None:
    lines = PAGES["settings.md"]().splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == len(EngineConfig.__dataclass_fields__) > 15
    for row in rows:
        assert re.search(r"\| [A-Z\"][^|]+ \|$", row), f"no comment: {row}"


def test_each_document_has_a_place_in_the_table_of_contents() -> None:
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    named = set(re.findall(r"[\w/.-]+\.md", nav))
    docs = ROOT / "docs"
    assert named == {str(path.relative_to(docs)) for path in docs.rglob("*.md")}


def test_documents_are_found_only_below_docs() -> None:
    """A page of the site cannot link to what is not on it."""
    for path in Path(ROOT / "docs").rglob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text("utf-8")):
            if "://" not in link and not link.startswith("mailto:"):
                assert (path.parent / link).resolve().is_relative_to(ROOT / "docs"), (path, link)
