"""docs/running/web.md: its programs under gunicorn and uvicorn, with workers that are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import psutil
import pytest

from tests.support.agents import environment
from tests.support.pages import programs
from tests.support.patience import Deadline, patience
from tests.support.place import Place
from tests.support.waiting import joined, until

SHOP, CHAT = programs("running/web.md")
#: The server's command line, with its application in app.py.
SERVERS = {
    "gunicorn": ("gunicorn", ["--workers", "3", "--bind", "{}"], SHOP),
    "gunicorn-preload": ("gunicorn", ["--workers", "3", "--preload", "--bind", "{}"], SHOP),
    "gunicorn-threads": (
        "gunicorn", ["--workers", "2", "--preload", "--threads", "4", "--bind", "{}"], SHOP,
    ),
    "gunicorn-uvicorn": (
        "gunicorn",
        ["--workers", "3", "--preload", "-k", "uvicorn_worker.UvicornWorker", "--bind", "{}"], CHAT,
    ),
    "uvicorn": ("uvicorn", ["--workers", "3", "--host", "127.0.0.1", "--port", "{port}"], CHAT),
}  # fmt: skip
ORDERS, THREADS, KILLS = 60, 4, 4


@contextmanager
def serving(place: Place, name: str) -> Iterator[tuple[psutil.Process, str]]:
    """A server with the application of the page; it and its address."""
    module, options, program = SERVERS[name]
    pytest.importorskip(module)
    (place.folder / "app.py").write_text(program)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    command = [each.format(address, port=port) for each in options]
    variables = environment(SHOP_DB=str(place.database), CHAT_DB=str(place.database))
    log = place.folder / "server.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *command, "app:application"], cwd=place.folder,
            env=variables, stdout=out, stderr=out,
        )  # fmt: skip
    try:

        def up() -> bool:
            assert process.poll() is None, log.read_text()
            return _asked(address, "warm-up") is not None

        until(up, what="the server", timeout=60)
        yield psutil.Process(process.pid), address
        process.send_signal(signal.SIGTERM)
        process.wait(patience(60))
    finally:
        process.kill()
        process.wait()


def _asked(address: str, order: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{address}/{order}", timeout=patience(20)) as answer:
            return str(answer.read().decode())
    except (OSError, HTTPException, urllib.error.URLError):
        return None


@pytest.mark.parametrize("name", SERVERS)
def test_workers_are_killed_and_no_answer_is_lost(state_dir: Place, name: str) -> None:
    """Each order is asked for until it is answered; what was answered is what is stored, and asking
    again gives it, whichever worker gets the request."""
    answers: dict[str, str] = {}
    with serving(state_dir, name) as (server, address):

        def work(first: int) -> None:
            for number in range(first, ORDERS, THREADS):
                deadline = Deadline(60.0)
                while (answer := _asked(address, str(number))) is None:
                    assert deadline.left(), f"order {number} is not answered"
                answers[str(number)] = answer

        threads = [threading.Thread(target=work, args=(each,)) for each in range(THREADS)]
        for thread in threads:
            thread.start()
        killed: set[int] = set()
        for number in range(KILLS):
            until(lambda n=number: len(answers) >= 8 * (n + 1), what="answers")  # type: ignore[misc]
            pid = int(list(answers.values())[-1].rpartition(" ")[2])
            if pid not in killed and pid != server.pid and psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        joined(*threads, timeout=120)
        assert killed
        assert len(answers) == ORDERS
        workers = {int(each.rpartition(" ")[2]) for each in answers.values()}
        assert len(workers) > 1
        again = {order: _asked(address, order) for order in list(answers)[:20]}
        assert again == {order: answers[order] for order in again}
    with state_dir.engine() as engine:
        for order, answer in answers.items():
            state = engine.latest_sync(f"order/{order}")[1]
            assert state == {"order": order, "plan": answer}
