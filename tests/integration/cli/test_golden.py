"""What commands print, at 80 and at 200 columns, is what is kept in tests/data/golden."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from livingai import ErrorInfo, ExecutionNode, NodeType, Status, codecs, serial
from livingai.queue.layout import StateKind
from livingai.stores.sqlite import SQLiteStore
from livingai.testing import make_row
from tests.support import golden
from tests.support.agents import environment
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.places import leave_a_record
from tests.support.waiting import until

WIDTHS = (80, 200)
LONG = "a-run-with-a-long-id-" + "x" * 60


def printed(place: Place, columns: int, *arguments: str) -> tuple[int, str]:
    env = {
        **environment(), "LIVINGAI_STORE": "agent.db", "TZ": "UTC", "COLUMNS": str(columns),
        "NO_COLOR": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "livingai.cli", *arguments], env=env, cwd=place.folder,
        capture_output=True, text=True, timeout=patience(60), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, golden.normal(done.stdout + done.stderr, place.folder)


def fill(place: Place) -> None:
    """Rows as writers make them, with ids and times of ours."""
    store = SQLiteStore(place.database)
    try:
        for each in (
            make_row("chat", 0, **state({"step": 0, "city": "Turin"}), metadata={"name": "plan"},
                     cost_tokens=12, latency_ms=1500.0),
            make_row("chat", 1, type=NodeType.TOOL, parent_id="chat/0",
                     metadata={"name": "charge"}, latency_ms=20.0),
            make_row("chat", 2, **state({"step": 1, "city": "Milan", "notes": ["a"]}),
                     parent_id="chat/0", metadata={"name": "answer"}),
            make_row("chat", 3, type=NodeType.TOOL, status=Status.RUNNING, parent_id="chat/0",
                     metadata={"name": "mail"}),
            make_row("weather", 0, status=Status.FAILED, **state({"step": 0, "city": "Rome"}),
                     error=ErrorInfo("ValueError", "no such city"), metadata={"name": "ask"}),
            make_row(LONG, 0, metadata={"name": "only \x1b[2J"}),
        ):  # fmt: skip
            store.commit([replace(each, state_kind=StateKind.MSGPACK if each.blob else 0)])
    finally:
        store.close()


def state(value: object) -> dict[str, Any]:
    """A state as the store has it: codec 0 (as it is), and its hash."""
    raw = serial.pack(value)
    return {"blob": b"\0" + raw, "content_hash": codecs.content_hash(raw)}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("list", ["list"], 0), ("show", ["show", "chat"], 0),
        ("diff", ["diff", "chat", "weather"], 1),
        ("recover", ["recover"], 1), ("recover-one", ["recover", "chat"], 1),
    ],
)  # fmt: skip
def test_what_is_seen_of_runs(
    state_dir: Place, name: str, arguments: list[str], status: int, columns: int
) -> None:
    fill(state_dir)
    found, text = printed(state_dir, columns, *arguments)
    golden.held(f"{name}-{columns}.txt", text)
    assert found == status
    if name in ("list", "show"):
        assert max(map(len, text.splitlines())) <= columns


#: Findings of the machine that the tests run on.
OF_THE_MACHINE = (
    "shared-memory", "descriptors", "memory", "out-of-memory", "volatile-disk", "container-layer",
    "disk-full", "inodes",
)  # fmt: skip


def without_the_machine(text: str) -> str:
    """The output of `doctor` without what it finds of the machine."""
    parts = text.rstrip("\n").split("\n\n")
    kept = [part for part in parts if not any(f" {code}: " in part for code in OF_THE_MACHINE)]
    return "\n\n".join(kept) + "\n"


def test_how_the_service_is(state_dir: Place) -> None:
    with state_dir.service():
        with state_dir.engine() as engine:
            node = ExecutionNode("run-1", status=Status.SUCCESS)
            engine.save_sync(node, b"state").result(patience(60))
        until(lambda: state_dir.ask("status").journals_of_dead_owners, what="no agent")
        for columns in WIDTHS:
            golden.held(f"status-{columns}.txt", printed(state_dir, columns, "status")[1])
    for columns in WIDTHS:
        golden.held(f"status-ended-{columns}.txt", printed(state_dir, columns, "status")[1])


def test_what_doctor_says_of_a_killed_service(state_dir: Place) -> None:
    leave_a_record(state_dir, state_dir.database)
    for columns in WIDTHS:
        text = without_the_machine(printed(state_dir, columns, "doctor")[1])
        golden.held(f"doctor-{columns}.txt", text)
