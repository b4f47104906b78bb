"""The example that everybody sees first, as they run it: a script in an empty folder."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from livingai import ExecutionNode, NodeType, RecoveryEngine, Status
from livingai.errors import JournalClosedError
from tests.support import peek
from tests.support.agents import ROOT, environment
from tests.support.patience import patience
from tests.support.place import Place

#: The quick start, but for the ids, which are printed to compare them.
EXAMPLE = """
engine = CheckpointEngine(SQLiteStore("agent.db"))
step = ExecutionNode(execution_id="run-1", type=NodeType.PROMPT, status=Status.SUCCESS, output="plan ready")
await engine.save(step, state=b"serialized agent state")
charge = ExecutionNode(execution_id="run-1", type=NodeType.TOOL, status=Status.SUCCESS, output={"receipt": "R-1"})
await engine.save(charge)
recovery = RecoveryEngine(CheckpointEngine(SQLiteStore("agent.db")))
plan = await recovery.plan("run-1")
print("resume from:", plan.resume_node_id, "skip effects:", len(plan.skipped_nodes))
"""  # noqa: E501
IMPORTS = """
import asyncio, os, sys, threading
from livingai import CheckpointEngine, ExecutionNode, NodeType, RecoveryEngine, SQLiteStore, Status
"""
SAVED = 'ExecutionNode("run-1", status=Status.SUCCESS), state=b"the last state"'


def script(body: str, *, main: bool = True) -> str:
    """A script with ``body`` as its async main function (or as it is)."""
    if not main:
        return IMPORTS + body
    return f"{IMPORTS}\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())\n"


def begin(place: Place, text: str) -> subprocess.Popen[str]:
    """Start a script, as a terminal would: in a process group of its own."""
    path = place.folder / "script.py"
    path.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=place.folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


def run(place: Place, text: str) -> str:
    """Run a script to its end; what it printed. It must say nothing on standard error."""
    with begin(place, text) as process:
        out, err = process.communicate(timeout=patience(60))
    assert (process.returncode, err) == (0, "")
    return out


def test_example_twice_in_a_row(state_dir: Place) -> None:
    text = script(EXAMPLE + "print(step.id)\n")
    seen = set()
    for _ in range(2):
        out = run(state_dir, text)
        found = re.fullmatch(r"resume from: (\S+) skip effects: 1\n(\S+)\n", out)
        assert found, out
        assert found[1] == found[2], "the plan resumes from another node than the script's"
        seen.add(found[1])
    assert len(seen) == 2
    assert peek.stored_state(state_dir.database, "run-1") == b"serialized agent state"


def test_import_starts_nothing_and_loads_no_driver(state_dir: Place) -> None:
    out = run(
        state_dir,
        script(
            'CheckpointEngine(SQLiteStore("agent.db"), idle_s=0.2)\n'
            'print([m for m in ("apsw", "redis", "psycopg", "uvloop") if m in sys.modules])\n'
            'print(os.listdir("."), threading.active_count())\n',
            main=False,
        ),
    )
    assert out == "[]\n['script.py'] 1\n"


def test_sync_twins(served: Place) -> None:
    with served.engine() as engine:
        assert engine.sla().service == "not started"
        node = ExecutionNode(served.run, status=Status.SUCCESS, output="plan ready")
        receipt = engine.save_sync(node, {"messages": ["hi"], "turn": (1, 2.5, None, b"x")})
        assert receipt
        assert receipt.result(patience(60)).stored
        for found, state in (engine.latest_sync(served.run), engine.load_sync(node.id)):
            assert found == node
            assert state == {"messages": ["hi"], "turn": (1, 2.5, None, b"x")}
        effect = ExecutionNode(served.run, NodeType.TOOL, Status.SUCCESS)
        engine.save_sync(effect)
        engine.flush_sync(timeout=patience(60))
        plan = RecoveryEngine(engine).plan_sync(served.run)
        assert (plan.resume_node_id, plan.skipped_nodes) == (node.id, (effect,))
    with pytest.raises(JournalClosedError, match="create a new one"):
        engine.save_sync(node)
    engine.close_sync()  # a second time


def test_async_with(served: Place) -> None:
    async def main() -> None:
        async with served.engine() as engine:
            node = ExecutionNode(served.run, status=Status.SUCCESS)
            receipt = await engine.save(node, bytearray(b"state"))
            outcome = await receipt
            assert outcome is await receipt, "a receipt can be awaited again"
            assert outcome.stored
            await engine.flush(timeout=patience(60))
            assert await engine.latest(served.run) == (node, bytearray(b"state"))
            assert await engine.load(node.id) == (node, bytearray(b"state"))
        with pytest.raises(JournalClosedError):
            await engine.save(node)

    asyncio.run(main())


def test_close_leaves_no_descriptor_thread_or_mapping(served: Place) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for round_ in range(3):
        engine = served.engine()
        engine.save_sync(ExecutionNode(served.run), b"%d" % round_).result(patience(60))
        assert engine.latest_sync(served.run)[1] == b"%d" % round_
        engine.close_sync()
        assert sorted(os.listdir("/proc/self/fd")) == before


def test_exit_without_close(state_dir: Place) -> None:
    run(state_dir, script(f'engine = CheckpointEngine(SQLiteStore("agent.db"), idle_s=0.2)\n'
                          f"await engine.save({SAVED})\n"))  # fmt: skip
    state_dir.empty()
    assert peek.stored_state(state_dir.database, "run-1") == b"the last state"
    assert state_dir.journals() == []


def test_exit_with_an_exception(state_dir: Place) -> None:
    text = script(f'engine = CheckpointEngine(SQLiteStore("agent.db"), idle_s=0.2)\n'
                  f"await engine.save({SAVED})\nraise SystemExit(7)\n")  # fmt: skip
    with begin(state_dir, text) as process:
        _, err = process.communicate(timeout=patience(60))
    assert (process.returncode, err) == (7, "")
    state_dir.empty()
    assert peek.stored_state(state_dir.database, "run-1") == b"the last state"


def await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready, "nothing was printed within 30 s"
    assert process.stdout.readline() == line


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(state_dir: Place, presses: int) -> None:
    text = script(
        f'engine = CheckpointEngine(SQLiteStore("agent.db"), idle_s=0.2)\n'
        f'await engine.save({SAVED})\nprint("saved", flush=True)\nawait asyncio.sleep(60)\n'
    )
    with begin(state_dir, text) as process:
        await_line(process, "saved\n")
        for _ in range(presses):
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=patience(30))
    assert process.returncode in (1, 130, -signal.SIGINT)
    assert "KeyboardInterrupt" in err
    state_dir.empty()
    if state_dir.journals():  # it ended before the service was up: the next engine starts one
        with state_dir.engine() as engine:
            assert engine.latest_sync("run-1")[1] == b"the last state"
        state_dir.empty()
    assert peek.stored_state(state_dir.database, "run-1") == b"the last state"


def test_ctrl_c_in_a_sync_wait(state_dir: Place) -> None:
    """With the service stopped ``result()`` waits; Ctrl-C must get through to it."""
    text = script(
        f'engine = CheckpointEngine(SQLiteStore("agent.db"), idle_s=0.2)\n'
        f'engine.save_sync({SAVED}).result(30)\nprint("up", flush=True)\nsys.stdin.readline()\n'
        f'receipt = engine.save_sync({SAVED})\nprint("saved", flush=True)\nreceipt.result()\n',
        main=False,
    )
    with begin(state_dir, text) as process:
        await_line(process, "up\n")
        service = [pid for pid in state_dir.service_processes() if pid != process.pid]
        for pid in service:
            os.kill(pid, signal.SIGSTOP)
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        await_line(process, "saved\n")
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=patience(30))
        for pid in service:
            os.kill(pid, signal.SIGCONT)
    assert "KeyboardInterrupt" in err
    state_dir.empty()
    assert len(peek.stored_versions(state_dir.database, "run-1")) == 2


def test_readme_example_runs(state_dir: Place) -> None:
    """As it is in the README, whatever it is."""
    readme = ROOT.joinpath("README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (example,) = [block for block in blocks if "engine.save(" in block]
    out = run(state_dir, example)
    assert re.fullmatch(r"(met|late) \{'messages': \['hello'\]\} True\n", out)
    state_dir.empty()
    assert peek.stored_state(state_dir.database, "run-1") == {"messages": ["hello"]}
