"""Which module imports which, read from the source, and the rules that those imports follow.

The graph has every import statement: at the top of a file, inside a function, and under
``TYPE_CHECKING``. Symbolic links to folders are followed. Importing a module also imports the
packages that it lies in, which is not counted; taking a name from a package's ``__init__.py`` is.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Two rooms that import nothing from each other.
STRANGERS = ("engine", "workers")
#: Rooms that see the service from outside, and rooms of its inside that they may not import.
OUTSIDE = ("cli", "adapters", "studio", "metrics")
INSIDE = ("queue", "workers")
#: The room of stores, and the folder there that all stores may import.
STORES, SHARED = "stores", "shared"
#: Python files directly in the package.
MOST_BESIDE_ROOMS = 16


@dataclass(frozen=True, slots=True, order=True)
class Import:
    """``source`` imports ``target`` (both dotted module names) at a place written ``file:line``."""

    source: str
    target: str
    at: str

    def __str__(self) -> str:
        return f"{self.at}: {self.source} imports {self.target}"


class ImportGraph:
    """The modules of one package and the imports among them."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.files = dict(sorted(_modules(package)))
        found = {each for module in self.files for each in self._imports(module)}
        self.imports = sorted(each for each in found if each.source != each.target)

    def room(self, module: str) -> str:
        """The folder or module directly in the package that a module belongs to; ``__init__`` for
        the package itself."""
        return f"{module}.__init__".split(".")[1]

    def _imports(self, module: str) -> Iterator[Import]:
        path = self.files[module]
        shown = path.relative_to(self.package.parent)
        inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name != self.package.name]
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(node, inside)
                names = [f"{base}.{alias.name}" for alias in node.names]
                names = [name if name in self.files else base for name in names]
            else:
                continue
            for name in names:
                if name in self.files:
                    yield Import(module, name, f"{shown}:{node.lineno}")

    def circles(self) -> list[list[str]]:
        """The largest sets of modules in which each imports, directly or not, every other."""
        after: dict[str, list[str]] = {module: [] for module in self.files}
        before: dict[str, list[str]] = {module: [] for module in self.files}
        for found in self.imports:
            after[found.source].append(found.target)
            before[found.target].append(found.source)
        # Kosaraju's algorithm: modules in order of completion, then backwards from the last.
        completed: dict[str, None] = {}
        for module in self.files:
            if module not in completed:
                for done in _depth_first(module, after, completed):
                    completed[done] = None
        circles, placed = [], set[str]()
        for module in reversed(completed):
            if module not in placed:
                circle = list(_depth_first(module, before, placed))
                placed.update(circle)
                if len(circle) > 1:
                    circles.append(sorted(circle))
        return sorted(circles)


def layers(document: str) -> dict[str, tuple[int, int]]:
    """Each room's layer and its place in that layer's row, from the table under ``## Layers``.

    Raises:
        ValueError: there is no such table, its numbers are not 1, 2, 3, …, or a room is in it
            twice.
    """
    section = re.split(r"^## ", document, flags=re.MULTILINE)
    text = next((part for part in section if part.startswith("Layers\n")), "")
    rows = re.findall(r"^\| *(\d+) *\|([^|]*)\|[^|]+\|$", text, flags=re.MULTILINE)
    if not rows or [int(number) for number, _ in rows] != list(range(1, len(rows) + 1)):
        raise ValueError("the section 'Layers' has no table whose rows are numbered 1, 2, 3, …")
    ranks: dict[str, tuple[int, int]] = {}
    for number, names in rows:
        for place, name in enumerate(re.findall("`([^`]+)`", names)):
            room = name.rstrip("/")
            if room in ranks:
                raise ValueError(f"{room} is in the table of layers twice")
            ranks[room] = (int(number), place)
    return ranks


def violations(graph: ImportGraph, ranks: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Every broken rule but circles among modules, one line each."""
    rooms = {graph.room(module) for module in graph.files}
    for room in sorted(rooms - set(ranks)):
        yield f"{room} is in no row of the table of layers"
    for room in sorted(set(ranks) - rooms):
        yield f"the table of layers has {room}, which does not exist"
    for found in graph.imports:
        source, target = graph.room(found.source), graph.room(found.target)
        if {source, target} == set(STRANGERS):
            yield f"{found}: {source} and {target} may not import each other"
        elif source in ranks and target in ranks and ranks[target] > ranks[source]:
            yield f"{found}: upward, {target} is behind {source} in the table of layers"
        if source in OUTSIDE and target in INSIDE:
            yield f"{found}: {source} may not import from {target}"
        if source == target == STORES and _reaches_over(graph, found):
            yield f"{found}: a store may not import another store's modules"
    beside = [path.name for path in graph.package.glob("*.py")]
    if len(beside) > MOST_BESIDE_ROOMS:
        yield f"{len(beside)} modules are directly in the package, {MOST_BESIDE_ROOMS} may be"


def in_circles(graph: ImportGraph) -> Iterator[str]:
    """Every circle of modules, with the imports that make it up."""
    for circle in graph.circles():
        inner = [str(f) for f in graph.imports if {f.source, f.target} <= set(circle)]
        yield "\n  ".join([f"a circle of {len(circle)} modules:", *inner])


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(package, followlinks=True):
        for name in names:
            if name.endswith(".py"):
                path = Path(folder, name)
                parts = path.relative_to(package.parent).with_suffix("").parts
                yield ".".join(parts).removesuffix(".__init__"), path


def _absolute(node: ast.ImportFrom, inside: str) -> str:
    """The module that a ``from`` names; ``inside`` is the package of the file that it is in."""
    if not node.level:
        return node.module or ""
    parts = inside.split(".")
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _reaches_over(graph: ImportGraph, found: Import) -> bool:
    """Whether a module in one store's folder, or in the shared one, imports another store's."""
    source, target = _store(graph, found.source), _store(graph, found.target)
    return bool(source) and target not in ("", SHARED, source)


def _store(graph: ImportGraph, module: str) -> str:
    """The folder in ``stores/`` that a module lies in; "" if it lies directly there."""
    name = [*module.split("."), ""][2]
    return name if (graph.package / STORES / name).is_dir() else ""


def _depth_first(
    start: str, edges: Mapping[str, list[str]], seen: Collection[str]
) -> Iterator[str]:
    """Modules that can be reached from ``start`` without those ``seen``, in order of completion."""
    met, stack = {start}, [(start, iter(edges[start]))]
    while stack:
        module, following = stack[-1]
        for other in following:
            if other not in met and other not in seen:
                met.add(other)
                stack.append((other, iter(edges[other])))
                break
        else:
            stack.pop()
            yield module
