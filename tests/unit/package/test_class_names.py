"""No two classes of the package have one name: a name in a traceback or a search is one class."""

from __future__ import annotations

import ast
import os
from collections import defaultdict
from pathlib import Path

from tests.support.agents import ROOT


def places_of_classes(package: Path) -> dict[str, list[str]]:
    """Where each class is defined, as ``file:line``; links to folders are followed."""
    places: dict[str, list[str]] = defaultdict(list)
    for folder, _, files in os.walk(package, followlinks=True):
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.ClassDef):
                        places[node.name].append(f"{path.relative_to(package)}:{node.lineno}")
    return places


def test_no_two_classes_have_one_name() -> None:
    places = places_of_classes(ROOT / "livingai")
    assert {"CheckpointEngine", "SQLiteStore", "SegmentMap"} <= set(places), "a folder is left out"
    assert {name: at for name, at in places.items() if len(at) > 1} == {}
