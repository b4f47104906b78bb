"""Outputs of commands that are kept as files, in ``tests/data/golden``.

``LIVINGAI_RENEW_GOLDEN=1 .venv/bin/python -m pytest tests/integration/cli/test_golden.py`` writes
them anew; look at the difference before it is committed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent.parent / "data" / "golden"
#: What differs from run to run, and what it becomes; of the same width where it is in a table.
_VARYING: Final = (
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "2026-01-02 03:04:05"),
    (re.compile(r"(?<=^  supervisor     )\d+", re.M), "PID"),
    (re.compile(r"(?<=^  dispatcher     )\d+", re.M), "PID"),
    (re.compile(r"(?<=^  writers        )\d+", re.M), "PID"),
    (re.compile(r"(?<=^  reader         )\d+", re.M), "PID"),
    (re.compile(r"(?<=^  compressors    ).*", re.M), "PIDS"),
    (re.compile(r"(?<=^compression      ).*", re.M), "WHERE"),
    (re.compile(r"(?<=^livingai         ).*", re.M), "VERSION"),
    (re.compile(r"(?<=^Python           ).*", re.M), "VERSION on Linux VERSION"),
    (re.compile(r"(?<=^packages         ).*", re.M), "PACKAGES"),
    (re.compile(r"(?<=^store version    SQLite ).*", re.M), "VERSION"),
    (re.compile(r"running, livingai \S+"), "running, livingai VERSION"),
    (re.compile(r"\d+ met(, \d+ late)?|\d+ late"), "N stored"),
)


def normal(text: str, folder: Path) -> str:
    """The output without what differs from run to run."""
    text = text.replace(str(folder.resolve()), "/place")
    for pattern, fixed in _VARYING:
        text = pattern.sub(fixed, text)
    return text


def held(name: str, text: str) -> None:
    """Compare with the file of that name, or write it."""
    path = FOLDER / name
    if os.environ.get("LIVINGAI_RENEW_GOLDEN"):
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing; {__doc__}"
    assert text == path.read_text(encoding="utf-8"), f"not as in {path}"
