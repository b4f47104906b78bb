"""The dispatcher's work, from the beginning of its process to the end: its lock on the directory,
its signals. Settings come as one JSON line on standard input; when that ends, the dispatcher ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import threading
import time
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import ServiceRunningError
from livingai.protocol.exit_codes import ExitCode
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import OwnerLock, owner_identity
from livingai.queue.removal import remove_if_stored
from livingai.queue.waiting import waiting_records
from livingai.service.logfile import log_to_stderr
from livingai.workers.dispatcher.dispatcher import Dispatcher
from livingai.workers.dispatcher.ending import Farewell
from livingai.workers.dispatcher.spawning import Spawned
from livingai.workers.process import die_with_parent, raise_descriptor_limit, yield_to_agents

_log = logging.getLogger("livingai.service")

#: Seconds that a new dispatcher waits for one that is ending.
_TAKE_OVER_S = 3.0


def _watch_parent() -> None:
    """End when the supervisor ends, which holds the other end of our standard input."""
    while os.read(0, 4096):
        pass
    os._exit(1)


async def _main(
    config: ServiceConfig, directory: StateDirectory, deaths: int, writer: Spawned | None
) -> Farewell:
    dispatcher = Dispatcher(config, directory, deaths)
    if writer is not None:
        dispatcher.writers[0].adopt(writer)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, dispatcher.stop)
    loop.add_signal_handler(signal.SIGQUIT, functools.partial(dispatcher.stop, drain=False))
    return await dispatcher.run()


def _take_over(directory: StateDirectory) -> OwnerLock | None:
    """The directory's lock; None if another service owns and serves it. One that is ending has
    closed its socket and still holds the lock for a moment: its successor waits for it."""
    deadline = time.monotonic() + _TAKE_OVER_S
    while (lock := OwnerLock.acquire(directory.lock)) is None:
        with contextlib.suppress(OSError):
            directory.connect(1.0).close()
            return None
        if time.monotonic() > deadline:
            return None
        time.sleep(0.01)  # nothing announces that a lock is free; there is no event loop yet
    return lock


def serve(parent: int, deaths: int, writer: Spawned | None) -> tuple[int, dict[str, Any]]:
    """Serve until asked to stop, or until idle; the exit status and what to say at the end.

    ``parent`` is the supervisor's process id, ``deaths`` how many dispatchers have died on it
    lately, ``writer`` a writer that is on its way.
    """
    die_with_parent(parent)
    yield_to_agents()
    raise_descriptor_limit()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to stop
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return ExitCode.FAILED, {}
        line += chunk
    config = ServiceConfig.from_dict(json.loads(line))
    log_to_stderr("service", config.log_format)
    threading.Thread(target=_watch_parent, daemon=True).start()
    directory = StateDirectory(config.directory)
    directory.ensure(config.spec().build().url)
    lock = _take_over(directory)
    if lock is None:
        pid = owner_identity(directory.lock).get("pid")
        _log.error("%s (process %s)", ServiceRunningError(), pid)
        return ExitCode.RUNNING, {}
    try:
        import uvloop  # noqa: PLC0415 - the service's choice, not its importers'

        farewell = uvloop.run(_main(config, directory, deaths, writer))
    finally:
        lock.release()
    for journal in farewell.journals:
        remove_if_stored(journal)
    left = waiting_records(directory)
    if left and not farewell.drained:
        _log.error("stopped on request: %d records are not stored, they wait in the journals", left)
    return ExitCode.DONE, {"done": farewell.drained, "left": left}
