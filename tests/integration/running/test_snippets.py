"""docs/running: the programs that need nothing but livingai."""

from __future__ import annotations

import subprocess
import sys

from tests.support.agents import environment
from tests.support.manager import managed
from tests.support.pages import programs
from tests.support.patience import patience
from tests.support.place import Place

JOIN = """
from livingai import ExecutionNode
assert engine.save_sync(ExecutionNode("run-1"), {"step": 1}).result(60).stored
print(engine.sla().service)
"""
CALL = """
import json, os, signal, sys, function
print(json.dumps(function.handler({"order": sys.argv[1]}, None)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
CELLS = """
import asyncio
async def kernel():
    cell, shared = open("cell.py").read(), {}
    for _ in range(2):
        exec(compile(cell, "cell", "exec"), shared)
    node, state = shared["engine"].latest_sync("try-1")
    print(state, [each.output for each in shared["engine"].nodes_sync("try-1")])
asyncio.run(kernel())
"""


def test_a_function_whose_machine_vanishes(state_dir: Place) -> None:
    """Each call is a machine of its own that is killed as the handler has returned, and so is its
    service: what was answered is in the store."""
    (program,) = programs("running/lambda.md")
    (state_dir.folder / "function.py").write_text(program)
    for order in range(3):
        machine = state_dir.folder / f"disk-{order}"
        told = subprocess.run(
            [sys.executable, "-c", CALL, str(order)], cwd=state_dir.folder, text=True,
            capture_output=True, check=False, timeout=patience(60), env=environment(
                LIVINGAI_STORE=f"sqlite:///{state_dir.database}",
                LIVINGAI_DIRECTORY=str(machine), PYTHONPATH=_path(state_dir),
            ),
        )  # fmt: skip
        assert told.stdout.strip() == f'{{"answer": "plan of {order}"}}', told
        (machine / "gone").mkdir()  # what is there is never looked at again
        state_dir.kill_service()
        state_dir.service_killed = True
    with state_dir.engine() as engine:
        for order in range(3):
            assert engine.latest_sync(f"order/{order}")[1] == {"answer": f"plan of {order}"}


def _path(place: Place) -> str:
    return f"{place.folder}:{environment()['PYTHONPATH']}"


def test_a_cell_that_is_run_twice(state_dir: Place) -> None:
    (program,) = programs("running/notebooks.md")
    (state_dir.folder / "cell.py").write_text(program.replace("notebook.db", "agent.db"))
    told = subprocess.run(
        [sys.executable, "-c", CELLS], cwd=state_dir.folder, env=environment(), text=True,
        capture_output=True, check=False, timeout=patience(60),
    )  # fmt: skip
    assert told.stdout == "{'notes': ['first']} ['42', '42']\n", told


def test_an_agent_beside_the_unit(state_dir: Place) -> None:
    """The program of docs/running/systemd.md, with this place's store and directory."""
    (program,) = programs("running/systemd.md")
    for there, here in (
        ("postgresql://livingai:secret@db/livingai", f"sqlite:///{state_dir.database}"),
        ("/var/lib/livingai/state", state_dir.directory.path),
    ):
        assert there in program
        program = program.replace(there, here)
    with managed(state_dir) as served:
        served.manager.hear_until("READY")
        told = subprocess.run(
            [sys.executable, "-c", program + JOIN], cwd=state_dir.folder, env=environment(),
            text=True, capture_output=True, check=False, timeout=patience(60),
        )  # fmt: skip
        assert told.stdout == "connected\n", told
        assert served.end()[0] == 0
