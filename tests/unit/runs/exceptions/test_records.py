"""Records of exceptions that were made up, or written by an earlier version."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from livingai.errors import RecordedError
from livingai.runs.failures import RAISED, rebuild
from tests.support.exceptions import recorded
from tests.support.raising import raised


def planted(description: Any, name: str = "ValueError") -> Exception:
    node = recorded(ValueError("x"))
    assert node.error is not None
    node.error.type, node.metadata[RAISED] = name, description
    return rebuild(node)


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("Popen", {"module": "subprocess", "args": [["touch", "/tmp/planted"]]}),
        ("antigravity", {"module": "antigravity"}),
        ("X", {"module": "lib2to3.main", "bases": [["lib2to3", "X"]]}),
        ("SystemExit", {"module": "builtins", "args": [3]}),
        ("KeyboardInterrupt", {"module": "builtins"}),
        ("ValueError", {"module": "builtins", "hook": ["subprocess", "Popen", ["=", 1]]}),
        ("ValueError", {"module": "builtins", "held": [["object", "subprocess:Popen", ["=", 1]]]}),
        ("ValueError", {"module": "builtins", "held": [["fields", "subprocess", "Popen", {}]]}),
        ("ValueError", {"module": "builtins", "held": [["error", 77]], "cause": 9, "state": {}}),
        (
            "ExceptionGroup",
            {
                "module": "builtins",
                "state": {"message": ["=", "m"], "exceptions": ["list", [["error", 0]]]},
            },
        ),
        ("ValueError", {"module": 7, "args": 5, "attributes": [], "state": 3, "others": 9}),
        ("x.__class__", {"module": "os", "bases": [[1, 2]]}),
        ("ValueError", {"others": [{}] * 3, "cause": 2}),
    ],
)
def test_planted_records_do_nothing(name: str, description: Any) -> None:
    before = set(sys.modules)
    error = planted(description, name)
    assert type(error) is ValueError or isinstance(error, RecordedError)
    assert not {"antigravity", "lib2to3", "lib2to3.main"} & (set(sys.modules) - before)
    assert not os.path.exists("/tmp/planted")


def test_a_lazy_module_is_not_made_to_import() -> None:
    """``livingai`` imports its names when they are asked for; a record must not ask."""
    code = (
        "import sys, livingai; from livingai.runs.exceptions.types import find_exception; "
        "find_exception(('livingai', 'PostgresStore')); "
        "find_exception(('livingai', 'CheckpointEngine.x')); "
        "print('livingai.engine.engine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (FileNotFoundError(2, "none"), {"module": "builtins", "args": [2, "none"]}),
        (KeyError("k"), {"module": "builtins", "args": ["k"]}),
        (ZeroDivisionError(), {"module": "builtins"}),
        (
            UnicodeDecodeError("utf-8", b"a", 0, 1, "why"),
            {"module": "builtins", "args": ["utf-8", b"a", 0, 1, "why"]},
        ),
        (
            raised(lambda: ET.fromstring("<a")),
            {
                "module": "xml.etree.ElementTree",
                "args": ["unclosed token: line 1, column 0"],
                "attributes": {"code": 5, "position": (1, 0)},
            },
        ),
        (
            ExceptionGroup("g", [ValueError("v")]),
            {
                "module": "builtins",
                "args": ["g"],
                "exceptions": [
                    {"type": "ValueError", "message": "v", "module": "builtins", "args": ["v"]}
                ],
            },
        ),
    ],
)
def test_records_of_the_former_version(error: Exception, description: Any) -> None:
    node = recorded(error)
    node.metadata[RAISED] = description
    again = rebuild(node)
    assert type(again) is type(error)
    assert (str(again), again.args[:1]) == (str(error), error.args[:1])
    if isinstance(error, OSError | SyntaxError):
        assert (again.errno if isinstance(again, OSError) else again.msg) in (2, error.args[0])  # type: ignore[attr-defined]
    if isinstance(again, ExceptionGroup):
        assert repr(again.exceptions) == "(ValueError('v'),)"


def test_a_file_name_that_the_former_version_did_not_record() -> None:
    node = recorded(FileNotFoundError(2, "none", "a.txt"))
    node.metadata[RAISED] = {"module": "builtins", "args": [2, "none"]}
    again = rebuild(node)
    assert isinstance(again, FileNotFoundError)
    assert (again.errno, again.strerror, str(again)) == (2, "none", "[Errno 2] none: 'a.txt'")
