"""Hooks of mkdocs: docstrings use roles of reStructuredText, which the site's tools do not know."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|meth|func|mod|data|attr|exc):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """``:meth:`~livingai.Run.step``` becomes ``step``, in the font of code."""
    return _ROLE.sub(_named, html)


def _named(match: re.Match[str]) -> str:
    shortened, name = match.groups()
    return f"<code>{name.rpartition('.')[2] if shortened else name.removeprefix('.')}</code>"
