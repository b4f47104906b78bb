"""docs/running/celery.md: its program, with a child of the pool that is killed between steps."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.agents import environment
from tests.support.pages import programs
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.waiting import until

ORDERS = 12
#: Another broker, and steps that say what they do. The third order kills its child, once.
HERE = """
import os
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={"data_folder_in": "queue", "data_folder_out": "queue"},
)

def work(order, what):
    if (order, what) == ("3", "packed") and not os.path.exists("crashed"):
        open("crashed", "w").close()
        os.kill(os.getpid(), 9)
    with open("jobs.log", "a") as file:
        file.write(f"{order} {what}\\n")
"""


def test_a_task_of_a_killed_child_goes_on(state_dir: Place) -> None:
    """The broker is a folder. The task is delivered again, and its first step is not done again."""
    pytest.importorskip("celery")
    (program,) = programs("running/celery.md")
    folder = state_dir.folder
    (folder / "jobs.py").write_text(program.replace("jobs.db", "agent.db") + HERE)
    (folder / "queue").mkdir()
    variables = environment(PYTHONWARNINGS="default")  # Celery warns of root
    code = f"import jobs\nfor order in range({ORDERS}): jobs.fulfil.delay(str(order))"
    subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, check=True, timeout=patience(60)
    )
    with open(folder / "worker.log", "wb") as out:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "jobs", "worker", "--concurrency", "2",
             "--without-gossip", "--without-mingle", "--without-heartbeat"],
            cwd=folder, env=variables, stdout=out, stderr=out,
        )  # fmt: skip
    try:

        def done() -> bool:
            assert worker.poll() is None, (folder / "worker.log").read_text()
            log = folder / "jobs.log"
            return log.exists() and log.read_text().count("packed") >= ORDERS

        until(done, what="all orders packed", timeout=90)
        worker.send_signal(signal.SIGTERM)
        worker.wait(patience(60))
    finally:
        worker.kill()
        worker.wait()
    assert (folder / "crashed").exists()
    counted = Counter((folder / "jobs.log").read_text().splitlines())
    assert counted == {
        f"{order} {what}": 1 for order in range(ORDERS) for what in ("planned", "packed")
    }
    with state_dir.engine() as engine:
        ended = {each.execution_id: each.status for each in engine.executions_sync(prefix="order/")}
        assert ended == {f"order/{order}": "success" for order in range(ORDERS)}
