"""The document of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.results import command_of, document_of, read, write
from bench.run import Measured
from bench.setting import Setting
from bench.stores import SQLITE, Target
from bench.tiers import TIERS


def test_the_command_has_no_paths_and_no_passwords() -> None:
    assert command_of([]) == "make bench"
    found = command_of(
        ["--tier", "single", "--json", "/a/b.json", "--directory=/c", "--report", "d",
         "--store", "redis://me:s3cret@127.0.0.1:1/3", "--store=postgresql://u:s3cret@h/db"]
    )  # fmt: skip
    assert found == (
        'make bench ARGS="--tier single --store redis://127.0.0.1:1/3 --store=postgresql://h/db"'
    )


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    secret = Target("redis://127.0.0.1:1/3", "redis://me:s3cret@127.0.0.1:1/3")
    settings = [
        Setting(TIERS["single"], "closed", "", 1, "generated", 1, "/a/path", target)
        for target in (Target(SQLITE), secret)
    ]
    runs = [
        Measured({"saves": 5.0, "total_s": total_s}, {"held_ms": [1.0, total_s]})
        for total_s in (1.0, 2.0, 6.0)
    ]
    document = document_of("make bench", {"cpus": 2}, dict.fromkeys(settings, runs), None, [])
    write(tmp_path / "a.json", document)
    text = (tmp_path / "a.json").read_text()
    assert "s3cret" not in text
    assert "/a/path" not in text
    assert read(tmp_path / "a.json") == json.loads(json.dumps(document))
    first = document["results"][0]
    assert first["setting"]["column"] == "closed"
    assert first["summary"]["total_s"] == {"median": 2.0, "least": 1.0, "most": 6.0}
    assert first["curves"] == {"held_ms": [1.0, 2.0]}


@pytest.mark.parametrize("text", ["[]", "{}", '{"machine": {}}', "{"])
def test_what_is_no_document(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"results|Expecting"):
        read(tmp_path / "a.json")
