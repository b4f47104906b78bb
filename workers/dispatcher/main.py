"""The dispatcher's process: it does its work in :mod:`livingai.workers.dispatcher.serving`, and
whatever ends it, its supervisor hears why.

``main PARENT_PID DESCRIPTOR DEATHS``. Said on the descriptor, as one JSON object:
``{"done": true, "left": N}`` at an end in order (``done`` is false where it was asked to end before
the store had everything), ``{"error": text}`` at any other. Exit statuses: 0 an end in order, 3
another service owns the directory, 1 all else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback
from typing import Any

from livingai.failpoint import enter_process
from livingai.workers.dispatcher.spawning import Spawned, spawn_worker


def main() -> int:
    """Run the dispatcher and report on the descriptor how it ended; the exit status."""
    parent, fd, deaths = map(int, sys.argv[1:4])
    enter_process("dispatcher")
    code = 1
    words: dict[str, Any] = {}
    try:
        writer = _first_writer()
        # Here, because what fails while it is imported has to be said, too.
        from livingai.workers.dispatcher.serving import serve  # noqa: PLC0415

        code, words = serve(parent, deaths, writer)
    except Exception as error:
        if logging.getLogger().handlers:
            logging.getLogger("livingai.service").exception("the dispatcher ends")
        else:
            traceback.print_exc()
        words = {"error": f"{type(error).__name__}: {error}"[:4000]}
    _say(fd, words)
    return code


def _first_writer() -> Spawned | None:
    """A writer that imports what it needs while we do so, too: the first record of a new service
    waits for both. It touches no store before it is asked to, and ends when we do."""
    try:
        return spawn_worker("writer")
    except OSError:  # later, with a typed error
        return None


def _say(fd: int, words: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the supervisor has ended
        os.write(fd, json.dumps(words).encode())


if __name__ == "__main__":
    sys.exit(main())
