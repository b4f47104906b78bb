"""Starting the service: the agent's side of it.

The supervisor is a new session, detached from the agent by a second fork, so it outlives the agent
and leaves it no zombie. Its settings go through its standard input: they may hold credentials.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from livingai.config import ServiceConfig
from livingai.errors import ServiceUnavailableError
from livingai.logfile import open_log
from livingai.queue.directory import StateDirectory

#: Seconds that a started process may take to detach itself.
_DETACH_S = 20.0
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def service_environment() -> dict[str, str]:
    """The environment of the service's processes: this one's, with a path on which they find the
    modules that this process can import (livingai itself, a store of the user's)."""
    environment = dict(os.environ)
    paths = [_PACKAGE_PARENT, *(os.path.abspath(p or ".") for p in sys.path)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return environment


def launch_service(config: ServiceConfig) -> None:
    """Start the service in the background; returns once it is detached, not once it is ready.

    Raises:
        ServiceUnavailableError: no process could be started.
    """
    if not sys.executable:
        raise ServiceUnavailableError(
            "the service cannot be started from an embedded interpreter (sys.executable is empty); "
            "run `livingai serve` beside the agents"
        )
    log = StateDirectory(config.directory).log
    command = [sys.executable, "-P", "-m", "livingai.workers.supervisor", "--detach"]
    try:
        with (
            open_log(log) as out,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd="/",
                env=service_environment(),
                start_new_session=True,
            ) as process,
        ):
            try:
                process.communicate(json.dumps(config.to_dict()).encode(), timeout=_DETACH_S)
            except subprocess.TimeoutExpired:
                process.kill()  # or leaving the block would wait for it for ever
                raise
    except (OSError, subprocess.SubprocessError) as error:
        raise ServiceUnavailableError(
            f"the service cannot be started ({error}); nothing is lost, records wait in the "
            "journal. Run `livingai serve` to see what it says."
        ) from error
