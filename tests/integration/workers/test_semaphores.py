"""What the tests kill leaves no semaphores in /dev/shm."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

from tests.support.agents import environment
from tests.support.processes import TAG, end_all, is_tracker, tagged

_POOL = """
import gc, os, sys
from multiprocessing.synchronize import SemLock
from livingai.workers.dispatcher.compressor_executors import make_processes
if __name__ == "__main__":
    pool = make_processes(1)
    pool.submit(os.getpid).result()
    names = [o._semlock.name for o in gc.get_objects() if isinstance(o, SemLock)]
    print(*names, flush=True)
    sys.stdin.read()
"""


def test_all_processes_of_a_test_are_killed(tmp_path: Path) -> None:
    tag = secrets.token_hex(8)
    script = tmp_path / "pool.py"
    script.write_text(_POOL)
    with subprocess.Popen(
        [sys.executable, script], env=environment(**{TAG: tag}), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        names = process.stdout.readline().decode().split()
        semaphores = [Path(f"/dev/shm/sem.{name.lstrip('/')}") for name in names]
        assert semaphores
        assert all(path.exists() for path in semaphores)
        assert sum(map(is_tracker, tagged(tag))) == 1
        end_all(tag)
        assert process.wait() == -9
    assert not tagged(tag)
    assert not [path for path in semaphores if path.exists()]
