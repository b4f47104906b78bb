"""A program that is killed behind failed tools, and run again: it sees the same errors."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.patience import patience

PROGRAM = """
import os, signal, sys
from livingai import CheckpointEngine, SQLiteStore


class Declined(Exception):
    def __init__(self, code, *, card):
        super().__init__(f"card {card}")
        self.code = code


def declined():
    print("called", flush=True)
    try:
        {}["limit"]
    except KeyError as error:
        raise Declined(51, card="x") from error


def refused():
    print("called", flush=True)
    import urllib.request  # only here: a life that is served this does not import it
    urllib.request.urlopen("http://127.0.0.1:1/")


def missing():
    print("called", flush=True)
    open("/nowhere/a.txt")


def undefined():
    print("called", flush=True)
    return nothing


def broken():
    print("called", flush=True)
    import xml.etree.ElementTree as ET
    ET.fromstring("<a")


def many():
    print("called", flush=True)
    raise ExceptionGroup("many", [Declined(1, card="a"), OSError(28, "full", "b.txt")])


def look(run, tool):
    try:
        run.tool(tool)
    except Declined as error:
        said = "declined", error.code, repr(error.__cause__)
    except OSError as error:
        said = "OSError", error.errno, error.filename, repr(getattr(error, "reason", None))
    except NameError as error:
        said = "NameError", error.name
    except SyntaxError as error:
        said = "SyntaxError", error.msg, error.code, error.position
    except ExceptionGroup as error:
        said = "group", [getattr(each, "filename", each.args) for each in error.exceptions]
    except Exception as error:
        said = "another", repr(error)
    else:
        said = "nothing"
    return said


with CheckpointEngine(SQLiteStore("agent.db")) as engine, engine.run_sync("run-1") as run:
    for tool in (declined, refused, missing, undefined, broken, many):
        said = look(run, tool)
        print("saw", tool.__name__, *said, flush=True)
        run.step("note", str, said)
    if "--die" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_same_errors_in_every_life(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(PROGRAM)

    def life(*arguments: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "agent.py", *arguments], cwd=tmp_path, capture_output=True, text=True,
            timeout=patience(60), check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines()

    died, first = life("--die")
    assert died == -signal.SIGKILL
    assert first.count("called") == 6
    seen = [line for line in first if line.startswith("saw")]
    assert not [line for line in seen if " another " in line or line == "nothing"], seen
    assert seen[1].startswith("saw refused OSError None None ConnectionRefusedError(")
    assert life() == (0, seen)
    assert life() == (0, seen)
