"""``python -m bench.steps``: what recorded steps, plans and resumes cost.

* a recorded step and tool, p50 and p99, with and without an event loop;
* ``plan()`` of a run with 10,000 nodes;
* a run that was killed with a state of 0.8 MB, resumed by another process: from the journals of the
  dead one (the hot cache), and from SQLite;
* beside it a DBOS step on SQLite, if ``dbos`` is installed here or for the Python that ``--dbos``
  names (give it an environment of its own).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from bench.figures import quantile
from bench.machine import machine_facts
from bench.workload import Growth, Workload
from livingai import CheckpointEngine, ExecutionNode, NodeType, RecoveryEngine, SQLiteStore, Status

_NODES = 10_000
_STATE_BYTES = 800_000
#: No age is young enough for this cache, so every read comes from the store.
_NO_CACHE = {"cache_ttl_s": 1e-9}
_PEER = """
import json, sys, time
from dbos import DBOS
DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{sys.argv[1]}",
             "run_admin_server": False, "log_level": "ERROR"})
took = []

@DBOS.step()
def work(number):
    return {"number": number, "text": "x" * 100}

@DBOS.workflow()
def flow(count):
    for number in range(count):
        began = time.perf_counter()
        work(number)
        took.append((time.perf_counter() - began) * 1e3)

DBOS.launch()
flow(20)
took.clear()
flow(int(sys.argv[2]))
print(json.dumps(took))
DBOS.destroy()
"""


def work(number: int) -> dict[str, Any]:
    """What the steps do."""
    return {"number": number, "text": "x" * 100}


def _ms(took: list[float]) -> str:
    return f"p50 {quantile(took, 0.5):8.3f} ms   p99 {quantile(took, 0.99):8.3f} ms"


def _say(title: str, text: str) -> None:
    print(f"{title:44} {text}", flush=True)


def measure_calls(engine: CheckpointEngine, count: int) -> None:
    """Steps and tools of one run."""
    with engine.run_sync("sync") as run:
        _say("step, sync", _ms(_timed(count, partial(run.step, "work", work))))
        _say(
            "tool (intent on disk first), sync",
            _ms(_timed(count // 5, partial(run.tool, "work", work))),
        )
    with engine.run_sync("exclusive", exclusive=True) as run:
        _say(
            "tool, exclusive (intent stored first)",
            _ms(_timed(count // 20, partial(run.tool, "t", work))),
        )

    async def steps() -> list[float]:
        took = []
        async with engine.run("async") as run:
            for number in range(count):
                began = time.perf_counter()
                await run.step("work", work, number)
                took.append((time.perf_counter() - began) * 1e3)
        return took

    _say("step, async", _ms(asyncio.run(steps())))

    def served() -> None:
        with engine.run_sync("sync") as run:
            took = _timed(count, partial(run.step, "work", work))
            _say("step that is served from the record", _ms(took))
            for number in range(count // 5):
                run.tool("work", work, number)

    served()


def _timed(count: int, call: Any) -> list[float]:
    took = []
    for number in range(count):
        began = time.perf_counter()
        call(number)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def measure_plan(engine: CheckpointEngine, rounds: int) -> None:
    """A plan of many nodes, all of them behind the checkpoint."""
    for number in range(_NODES):
        kind = NodeType.TOOL if number % 3 == 0 else NodeType.PROMPT
        engine.save_sync(
            ExecutionNode(
                "large", kind, Status.SUCCESS, input={"args": [number], "kwargs": {}},
                output=work(number), metadata={"name": "work", "call": str(number)},
            ),
            state=b"state" if number == 0 else None,
        )  # fmt: skip
    engine.flush_sync()
    recovery = RecoveryEngine(engine)
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        plan = recovery.plan_sync("large")
        took.append((time.perf_counter() - began) * 1e3)
        assert len(plan.replay_nodes) + len(plan.skipped_nodes) == _NODES - 1
    _say(f"plan() of {_NODES} nodes", _ms(took))


# -- resume: in processes of their own -----------------------------------------------------------


def _die(database: str, runs: int, pipe: Connection) -> None:
    """Have that many runs with a large state, and be killed."""
    state = Workload("generated", 1).states(0, Growth(1, _STATE_BYTES, _STATE_BYTES))[0]
    engine = CheckpointEngine(SQLiteStore(database))
    for number in range(runs):
        run = engine.run_sync(f"large-{number}")
        run.__enter__()
        run.step("work", work, 1)
        run.state = state
        receipt = run.checkpoint()
        assert receipt is not None
        receipt.result()
    pipe.send(len(state))
    os.kill(os.getpid(), signal.SIGKILL)


def _resume(database: str, runs: range, settings: dict[str, Any], pipe: Connection) -> None:
    planned, entered = [], []
    with CheckpointEngine(SQLiteStore(database), **settings) as engine:
        engine.save_sync(ExecutionNode("warm up")).result()
        RecoveryEngine(engine).plan_sync("warm up")
        for number in runs:
            began = time.perf_counter()
            plan = RecoveryEngine(engine).plan_sync(f"large-{number}")
            planned.append((time.perf_counter() - began) * 1e3)
            assert len(plan.state) >= _STATE_BYTES
            began = time.perf_counter()
            run = engine.run_sync(f"large-{number}", resume="checkpoint")
            with run:
                entered.append((time.perf_counter() - began) * 1e3)
                assert run.state == plan.state
    pipe.send((planned, entered))


def measure_resume(database: str, rounds: int) -> None:
    """Plan and enter runs of a dead process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    writer = context.Process(target=_die, args=(database, 2 * rounds, theirs))
    writer.start()
    ours.recv()
    writer.join()
    for title, runs, settings in (
        ("hot cache", range(rounds), {}),
        ("SQLite", range(rounds, 2 * rounds), _NO_CACHE),
    ):
        reader = context.Process(target=_resume, args=(database, runs, settings, theirs))
        reader.start()
        planned, entered = ours.recv()
        reader.join()
        _say(f"plan with a state of 0.8 MB, {title}", _ms(planned))
        _say(f"run entered (claimed), 0.8 MB, {title}", _ms(entered))


def measure_peer(python: str, place: str, count: int) -> None:
    """The same step with DBOS."""
    known = subprocess.run([python, "-c", "import dbos"], capture_output=True, check=False)
    if known.returncode != 0:
        _say("step, DBOS on SQLite", f"skipped: dbos is not installed for {python} (see --dbos)")
        return
    done = subprocess.run(
        [python, "-c", _PEER, os.path.join(place, "peer.db"), str(count)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    _say("step, DBOS on SQLite", _ms(json.loads(done.stdout.splitlines()[-1])))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.steps")
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds")
    parser.add_argument("--dbos", default=sys.executable, metavar="PYTHON", help="has dbos")
    parser.add_argument("--directory", help="where to write (a temporary directory)")
    options = parser.parse_args()
    rounds = 1 if options.quick else 5
    place = tempfile.mkdtemp(prefix="livingai-bench-", dir=options.directory)
    try:
        database = os.path.join(place, "bench.db")
        with CheckpointEngine(SQLiteStore(database)) as engine:
            measure_calls(engine, 1000 * rounds)
            measure_plan(engine, 4 * rounds)
        measure_resume(database, 4 * rounds)
        measure_peer(options.dbos, place, 100 * rounds)
    finally:
        shutil.rmtree(place)
    facts = machine_facts(options.directory)
    print("  ".join(f"{key}: {value}" for key, value in facts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
