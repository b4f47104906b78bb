"""The start of a worker process: a socket pair and a Python. Imports little: the dispatcher's first
writer is started before the dispatcher itself has imported what it needs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple


class Spawned(NamedTuple):
    """A process that was started, and our end of the connection to it; it waits to be greeted."""

    process: subprocess.Popen[bytes]
    sock: socket.socket


def spawn_worker(role: str) -> Spawned:
    """Start a worker; it ends when the connection does. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable, "-P", "-m", "livingai.workers.store.main",
                    role, str(theirs.fileno()), str(os.getpid()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    return Spawned(process, ours)
