"""Programs of the documentation, as files to be run."""

from __future__ import annotations

import re

from tests.support.agents import ROOT


def programs(page: str, language: str = "python") -> list[str]:
    """The blocks of a page of docs/ in a language."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found
