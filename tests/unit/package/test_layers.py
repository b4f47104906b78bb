"""Imports run one way: along the table of layers in docs/ARCHITECTURE.md, and in no circle."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.agents import ROOT
from tests.support.import_graph import ImportGraph, in_circles, layers, violations

TABLE = ROOT / "docs" / "ARCHITECTURE.md"


#: What loads a module by a name in a variable, so that no import statement shows it.
LOADS_BY_NAME = {
    "livingai",
    "livingai.cli.lazy",
    "livingai.cli.programs",
    "livingai.importing.kinds",
    "livingai.stores.base",
    "livingai.stores.opening",
    "livingai.testing",
    "livingai.testing.harness",
    "livingai.workers.store.main",
}


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    return ImportGraph(ROOT / "livingai")


@pytest.fixture(scope="module")
def ranks() -> dict[str, tuple[int, int]]:
    return layers(TABLE.read_text())


def test_the_graph_reaches_through_the_links(graph: ImportGraph) -> None:
    rooms = {graph.room(module) for module in graph.files}
    assert {"queue", "stores", "workers", "engine", "errors", "__init__"} <= rooms
    assert len(graph.imports) > 500


def test_imports_follow_the_layers(graph: ImportGraph, ranks: dict[str, tuple[int, int]]) -> None:
    broken = list(violations(graph, ranks))
    assert not broken, "\n" + "\n".join(broken)


def test_no_modules_import_each_other_in_a_circle(graph: ImportGraph) -> None:
    broken = list(in_circles(graph))
    assert not broken, "\n" + "\n".join(broken)


def test_only_a_few_modules_load_others_by_name(graph: ImportGraph) -> None:
    found = set()
    for module, path in graph.files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", getattr(node, "id", ""))
            if name in ("import_module", "__import__"):
                found.add(module)
    assert found == LOADS_BY_NAME


# -- the rules themselves, on packages that break them -------------------------------------------

DOCUMENT = """
## Before

| 9 | `ghost` | not a layer |

## Layers

| layer | rooms | what it is |
|---|---|---|
| 1 | `errors`, `words` | what all others use |
| 2 | `queue/`, `stores/` | data |
| 3 | `engine/`, `workers/` | work |
| 4 | `cli/`, `adapters/`, `__init__` | the outside |

## Behind

| 9 | `ghost` | not a layer |
"""
FILES = {
    "__init__.py": "from pack.engine.engine import Engine",
    "errors.py": "",
    "words.py": "from pack import errors",
    "queue/journal.py": "from ..errors import X\nimport pack.words",
    "stores/base.py": "from pack.queue.journal import J",
    "stores/one/__init__.py": "from .store import One",
    "stores/one/store.py": "from pack.stores.base import B\nfrom pack.stores.shared.rows import R",
    "stores/two/store.py": "from pack.stores.base import B",
    "stores/shared/rows.py": "from pack.stores.base import B",
    "engine/engine.py": "from pack.queue import journal",
    "workers/main.py": "import pack\nfrom pack.stores import base",
    "cli/main.py": "from pack.engine.engine import Engine",
    "adapters/graph.py": "def f() -> None:\n    from pack.engine.engine import Engine",
}
TYPE_CHECKING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
BROKEN: dict[str, tuple[Mapping[str, str | None], list[str]]] = {
    "a module in no row": (
        {"extra.py": ""},
        ["extra is in no row of the table of layers"],
    ),
    "a room in no row": (
        {"studio/main.py": "from pack.engine.engine import Engine"},
        ["studio is in no row of the table of layers"],
    ),
    "a row without a room": (
        {"words.py": None, "queue/journal.py": ""},
        ["the table of layers has words, which does not exist"],
    ),
    "upward": (
        {"queue/journal.py": "\nfrom pack.engine.engine import Engine"},
        ["pack/queue/journal.py:2: pack.queue.journal imports pack.engine.engine: upward"],
    ),
    "upward within a row": (
        {"errors.py": "import pack.words"},
        ["pack/errors.py:1: pack.errors imports pack.words: upward"],
    ),
    "upward, late": (
        {"stores/base.py": "def f() -> None:\n    from pack.engine import engine"},
        ["pack/stores/base.py:2: pack.stores.base imports pack.engine.engine: upward"],
    ),
    "upward, for types": (
        {"stores/base.py": TYPE_CHECKING + "from ..engine.engine import Engine"},
        ["pack/stores/base.py:3: pack.stores.base imports pack.engine.engine: upward"],
    ),
    "upward, by a public name": (
        {"queue/journal.py": "from pack import Engine"},
        ["pack/queue/journal.py:1: pack.queue.journal imports pack: upward"],
    ),
    "engine to workers": (
        {"engine/engine.py": "from pack.workers.main import m"},
        ["pack/engine/engine.py:1: pack.engine.engine imports pack.workers.main: engine and"],
    ),
    "workers to engine": (
        {"workers/main.py": TYPE_CHECKING + "import pack.engine.engine"},
        ["pack/workers/main.py:3: pack.workers.main imports pack.engine.engine: workers and"],
    ),
    "store to store": (
        {"stores/one/store.py": "from pack.stores.two.store import Two"},
        ["pack/stores/one/store.py:1: pack.stores.one.store imports pack.stores.two.store: a st"],
    ),
    "shared to store": (
        {"stores/shared/rows.py": "from pack.stores.two.store import Two"},
        ["pack/stores/shared/rows.py:1: pack.stores.shared.rows imports pack.stores.two.store: a"],
    ),
    "cli into queue": (
        {"cli/main.py": "from pack.queue.journal import J"},
        ["pack/cli/main.py:1: pack.cli.main imports pack.queue.journal: cli may not import from q"],
    ),
    "adapter into workers": (
        {"adapters/graph.py": "def f() -> None:\n    import pack.workers.main"},
        ["pack/adapters/graph.py:2: pack.adapters.graph imports pack.workers.main: adapters may"],
    ),
    "too many modules": (
        {f"word_{n}.py": "" for n in range(14)},
        ["17 modules are directly in the package, 16 may be"],
    ),
}


def package(folder: Path, changes: Mapping[str, str | None]) -> ImportGraph:
    """A small package on disk; its room of workers is a link."""
    for name, text in {**FILES, **changes}.items():
        if text is not None:
            path = folder / "pack" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / "pack" / "workers").rename(folder / "workers")
    (folder / "pack" / "workers").symlink_to("../workers")
    return ImportGraph(folder / "pack")


def test_a_package_that_follows_the_rules_passes(tmp_path: Path) -> None:
    graph = package(tmp_path, {})
    assert list(violations(graph, layers(DOCUMENT))) == []
    assert list(in_circles(graph)) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_with_file_and_line(case: str, tmp_path: Path) -> None:
    changes, expected = BROKEN[case]
    found = list(violations(package(tmp_path, changes), layers(DOCUMENT)))
    for text in expected:
        assert any(line.startswith(text) for line in found), found
    if case != "too many modules":  # those are in no row either
        assert len(found) == len(expected), found


@pytest.mark.parametrize("late", [False, True])
def test_a_circle_is_named_with_its_imports(late: bool, tmp_path: Path) -> None:
    back = "from pack.engine.engine import Engine"
    changes = {
        "engine/engine.py": "from pack.engine.cache import Cache",
        "engine/cache.py": "from pack.engine import reads",
        "engine/reads.py": f"def f() -> None:\n    {back}" if late else f"\n{back}",
    }
    (found,) = in_circles(package(tmp_path, changes))
    assert "a circle of 3 modules" in found
    assert "pack/engine/engine.py:1: pack.engine.engine imports pack.engine.cache" in found
    assert "pack/engine/reads.py:2: pack.engine.reads imports pack.engine.engine" in found


@pytest.mark.parametrize(
    "table", ["", "## Layers\n", "## Layers\n| 1 | `a` | x |\n| 3 | `b` | x |\n"]
)
def test_a_document_without_layers_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match="numbered 1, 2, 3"):
        layers(table)


def test_a_room_in_two_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        layers("## Layers\n| 1 | `a` | x |\n| 2 | `a` | x |\n")
