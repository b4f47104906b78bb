"""What several parts need is written in one file: it cannot come to differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.agents import ROOT

LAYOUT = "queue/layout.py"
REFUSALS = "stores/shared/refusals.py"
#: (words, an example of them, the files that have them: the one that they belong to, and others
#: with the reason why it is something else there)
IN_ONE_FILE = [
    (r'environ\S*"XDG_STATE_HOME"', 'os.environ["XDG_STATE_HOME"]', {"livingai/places.py": ""}),
    ("this write has", '"this write has an epoch"', {REFUSALS: ""}),
    ("its base is not stored", '"its base is not stored"', {REFUSALS: ""}),
    (r"\w >> 32\b", "position >> 32", {LAYOUT: ""}),
    (r"016x\}-\{\S*claim:x", 'f"{journal:016x}-{claim:x}"', {LAYOUT: ""}),
    (
        r"(?i)0xFFFF_?FFFF\b|\(1 << 32\) - 1",
        "position & 0xFFFF_FFFF",
        {LAYOUT: "", "livingai/engine/engine.py": "a budget has 32 bits in a record"},
    ),
    (
        r"(?<!\()\b1 << 32\b|2 ?\*\* ?32\b|<< 32\b",
        "number < 1 << 32",
        {
            LAYOUT: "",
            "livingai/protocol/history.py": "an epoch has 32 bits in a message",
            "livingai/codecs/delta.py": "a length has 32 bits in a delta",
        },
    ),
    (
        r"[\"']_(owner|tenant|trace|base|encryption)[\"']",
        'tags.pop("_owner", None)',
        {LAYOUT: ""},
    ),
    (
        r"\b(wire|section|node)\[-?\d",
        "tokens = row.wire[7]",
        {"livingai/protocol/history.py": "the first byte of a packed section"},
    ),
    (
        r"\bfields\[-?\d",
        "fields[0] != execution_id",
        {"queue/segment.py": "the fields of a segment's header"},
    ),
    (
        r"(?:read_wire|unpack|to_wire)\([^()\n]*\)\[-?\d",
        "read_wire(name, stored)[12]",
        {"stores/sqlite/leftovers.py": "a field of a lock of the kernel"},
    ),
]


def sources() -> list[Path]:
    """All modules; those that are reached through links once."""
    return [
        path
        for folder in ("livingai", "queue", "stores", "workers")
        for path in (ROOT / folder).rglob("*.py")
        if not {"queue", "stores", "workers"} & set(path.relative_to(ROOT).parts[1:2])
    ]


@pytest.mark.parametrize(("words", "_example", "homes"), IN_ONE_FILE)
def test_each_of_these_is_written_in_one_file(
    words: str, _example: str, homes: dict[str, str]
) -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if re.search(words, path.read_text())
    }
    assert found == set(homes), "elsewhere, or no longer where it was allowed"


@pytest.mark.parametrize(("words", "example", "_homes"), IN_ONE_FILE)
def test_it_would_be_found(words: str, example: str, _homes: dict[str, str]) -> None:
    assert re.search(words, example)


def test_all_modules_are_looked_at() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in sources()}
    assert {LAYOUT, REFUSALS, "workers/store/writer.py", "livingai/engine/engine.py"} <= found
    assert len(found) > 150
