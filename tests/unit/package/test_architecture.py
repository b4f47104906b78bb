"""docs/ARCHITECTURE.md and the other documents name files and functions that are there, and the
steps of its ways lead from one to the next in the code."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

from docs.draw import DOCUMENT, drawings, redrawn, rows, steps
from tests.support.agents import ROOT
from tests.support.import_graph import layers
from tests.support.ways import constants, find, problems

TEXT = DOCUMENT.read_text()
WAYS = steps(TEXT)
GLOSSARY = (ROOT / "docs" / "GLOSSARY.md").read_text()
PLACES = [
    *((row[1], row[2]) for row in rows(TEXT, "what", "file", "function or name")),
    *((row[1], row[2]) for row in rows(TEXT, "what", "file", "name", "value")),
    *((row[2], row[3]) for row in rows(GLOSSARY, "word", "means", "file", "name")),
]
FOLDER = DOCUMENT.parent
DOCUMENTS = ["README.md", "queue/FORMAT.md"]
DOCUMENTS += sorted(path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*.md"))
#: Files of a user's that the documents speak of.
THEIRS = {"agent.py"}
#: Top-level names under which files of ours are.
OURS = ("livingai/", "queue/", "stores/", "workers/", "tests/", "docs/", "bench/", "examples/")


# -- the ways --


def test_there_are_five_ways() -> None:
    numbers: dict[str, list[int]] = {}
    for name in WAYS:
        numbers.setdefault(name[0], []).append(int(name[1:]))
    assert list(numbers) == list("ABCDE")
    assert all(way == list(range(1, len(way) + 1)) for way in numbers.values())
    assert all(len(way) > 15 for way in numbers.values())


def test_each_step_leads_to_the_next() -> None:
    found = list(problems(WAYS))
    assert not found, "\n" + "\n".join(found)


def test_only_the_program_comes_from_outside() -> None:
    starts = [step.name for step in WAYS.values() if not step.origins]
    assert starts == ["A1", "D1", "E1"]


def copy_of(path: str, folder: Path) -> Path:
    """A file of the source, in a folder of its own, to be changed."""
    target = folder / path
    target.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / path, target)
    return target


def renamed(path: Path, name: str) -> None:
    """Give a function or method another name where it is defined, and nowhere else."""
    text, count = re.subn(rf"def {name}\(", f"def {name}_anew(", path.read_text())
    assert count, (path, name)
    path.write_text(text)


@pytest.mark.parametrize("name", sorted(WAYS))
def test_a_step_whose_function_is_renamed_is_noticed(name: str, tmp_path: Path) -> None:
    step = WAYS[name]
    renamed(copy_of(step.path, tmp_path), step.function.rpartition(".")[2])
    assert f"{name}: {step.path} has no {step.function}" in list(problems(WAYS, tmp_path))


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("livingai/engine/engine.py", "encode_sections(node", "encode_parts(node", "A2, reached"),
        ("workers/dispatcher/server.py", "Message.WAKE", "Message.HELLO", "B1, reached from A20"),
        ("workers/dispatcher/dispatcher.py", "self.pool.add(item)", "pass", "B15, reached"),
        ("workers/dispatcher/dispatcher.py", "            self._encoded,\n", "", "B24, reached"),
        ("workers/store/role.py", 'f"do_{verb}"', "verb", "B36, reached from B35"),
        ("livingai/engine/connection.py", "Message.OUTCOMES", "Message.HELLO", "C11, reached"),
        ("workers/dispatcher/outcomes.py", "feed.advance()", "feed", "C6, reached from C5"),
        ("livingai/runs/effects.py", "effect.perform(engine)", "None", "E19, reached from E10"),
    ],
)
def test_a_hop_that_is_cut_is_noticed(
    path: str, old: str, new: str, expected: str, tmp_path: Path
) -> None:
    file = copy_of(path, tmp_path)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    found = list(problems(WAYS, tmp_path))
    assert any(line.startswith(expected) for line in found), found


def test_a_row_that_cannot_be_read_is_refused() -> None:
    titles = "| step | file | function | what happens | runs in | reached from |"
    head = titles + "\n|---|---|---|---|---|---|\n"
    with pytest.raises(ValueError, match="cannot be read"):
        steps(head + "| A1 | `a.py` | `f` | x | agent | somewhere |\n")
    with pytest.raises(ValueError, match="columns"):
        steps(head + "| A1 | `a.py` | `f` | x |\n")


# -- the other tables --


def test_the_tables_of_places_are_full() -> None:
    assert len(rows(TEXT, "what", "file", "function or name")) > 15
    assert len(rows(GLOSSARY, "word", "means", "file", "name")) > 40


@pytest.mark.parametrize(
    ("path", "name"), sorted({(p.strip("`"), n.strip("`")) for p, n in PLACES})
)
def test_a_place_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), path
    assert find(path, name) is not None or name in constants(ROOT / path), f"{path} has no {name}"


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [[cell.strip("`") for cell in row[1:]] for row in rows(TEXT, "what", "file", "name", "value")],
)
def test_a_limit_has_its_value(path: str, name: str, value: str) -> None:
    owner, _, name = name.rpartition(".")
    body = ast.parse((ROOT / path).read_text()).body
    if owner:
        [body] = [n.body for n in body if isinstance(n, ast.ClassDef) and n.name == owner]
    for node in body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            assert repr(ast.literal_eval(node.value)) == value
            return
    raise AssertionError(f"{path} assigns no {name}")


def test_each_room_has_a_line() -> None:
    listed = {row[0].strip("`") for row in rows(TEXT, "room", "what is in it")}
    folders = {"livingai/"}
    for top in (ROOT / "livingai", ROOT / "queue", ROOT / "stores", ROOT / "workers"):
        for file in top.rglob("*.py"):
            folders.add(f"{file.parent.relative_to(ROOT)}/")
    linked = {f"livingai/{name}" for name in ("queue/", "stores/", "workers/")}
    folders = {name for name in folders if not any(name.startswith(link) for link in linked)}
    assert listed == folders


def test_each_word_is_explained_once() -> None:
    words = [row[0] for row in rows(GLOSSARY, "word", "means", "file", "name")]
    assert len(words) == len(set(words))


# -- drawings and paths --


def test_the_drawings_are_what_the_tables_say() -> None:
    assert drawings(TEXT) == ["processes", "layers", *"ABCDE"]
    assert redrawn(TEXT) == TEXT, "run: python -m docs.draw"


def test_a_changed_table_changes_its_drawing() -> None:
    changed = TEXT.replace("`Journal.append` |", "`Journal.add` |")
    assert redrawn(changed) != changed
    assert len(layers(TEXT)) > 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_names_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = {
        name.rstrip(",.;:") for name in re.findall(r"`([\w./-]+)`", text) if name.startswith(OURS)
    }
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    files = [*ROOT.glob("*"), *(file for top in OURS for file in (ROOT / top).rglob("*"))]
    known = {file.name for file in files}
    missing += sorted(set(re.findall(r"`(\w+\.(?:py|md))`", text)) - known - THEIRS)
    assert not missing, f"{document} names {missing}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    file = ROOT / document
    for target in re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", file.read_text()):
        assert (file.parent / target).is_file(), f"{document} links to {target}"
