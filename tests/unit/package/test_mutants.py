"""The tables of deliberate faults apply to the code as it is, and trying one works."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants import __main__ as mutants
from tests.mutants.table import ROOT, Mutant, load

TABLE = load()
ENTRY = """
[[mutant]]
name = "one"
file = "livingai/keywords.py"
old = "a"
new = "b"
tests = []
"""


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.title)
def test_a_fault_applies(mutant: Mutant) -> None:
    healthy = (ROOT / mutant.file).read_text()
    faulty = mutant.applied(healthy)
    assert faulty != healthy
    if mutant.file.endswith(".py"):
        assert ast.dump(ast.parse(faulty)) != ast.dump(ast.parse(healthy)), "only a comment"


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.title)
def test_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        path, *names = test.split("::")
        text = (ROOT / path).read_text() if names else ""
        assert (ROOT / path).exists()
        for name in names:
            assert name.partition("[")[0] in text, f"{path} has no {name}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (ENTRY * 2, "one is there twice"),
        (ENTRY.replace('old = "a"', ""), "one has no old"),
        (ENTRY.replace('"b"', "1"), "new is unknown or of a wrong type"),
        (ENTRY + 'why = "x"', "why is unknown"),
    ],
)
def test_a_bad_table(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "room.toml").write_text(text)
    with pytest.raises(ValueError, match=error):
        load(tmp_path)


@pytest.mark.parametrize("old", ["absent", "e"])
def test_a_text_that_is_not_there_once(old: str) -> None:
    with pytest.raises(ValueError, match="times, not once"):
        Mutant("room", "one", "a.py", old, "x", ()).applied("three e: e")


def test_trials(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One that is noticed, two that nothing notices, one of which says so, and one that no test can
    be run with."""
    file, old = "tests/mutants/table.py", "is there twice"
    tests = ("tests/unit/package/test_mutants.py::test_a_bad_table",)
    same = 'is there tw" "ice'
    table = [
        Mutant("room", "noticed", file, old, "is", tests),
        Mutant("room", "survived", file, old, same, tests),
        Mutant("room", "explained", file, old, same, tests, "it is none"),
        Mutant("room", "broken", file, old, '"', tests),
    ]
    monkeypatch.setattr(mutants, "load", lambda: table)
    assert mutants.main(["--no-baseline", "--jobs", "4"]) == 1
    told = capsys.readouterr().out
    assert "noticed  room/noticed" in told
    wrong = told.partition("\nall ")[2].splitlines()[1:]
    assert sorted(wrong) == ["room/broken: broken", "room/survived: survived"]
    assert mutants.main(["elsewhere"]) == 2


def test_a_baseline_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = ("tests/unit/package/test_mutants.py::test_nothing",)
    table = [Mutant("room", "one", "tests/mutants/table.py", "is there twice", "is", tests)]
    monkeypatch.setattr(mutants, "load", lambda: table)
    assert mutants.main([]) == 2
