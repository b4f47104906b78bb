"""Named failpoints: places where a test makes the process die, fail or pause.

In production a failpoint costs one test of an empty dict. A test arms them in a child process
through the environment::

    LIVINGAI_FAILPOINTS="journal.before_fsync=kill;writer.before_commit=error*2;cursor=pause:1.5"

``kill`` is SIGKILL to the process itself, ``error`` raises :class:`OSError` (EIO), ``pause:S``
sleeps S seconds; ``*N`` lets it act at the N-th hit only (default: every hit; ``kill`` needs one).
"""

from __future__ import annotations

import errno
import os
import signal
import threading

#: Every failpoint of the code base; ``failpoint`` refuses names that are not here, and the kill
#: matrix of the tests walks this table.
NAMES = (
    "journal.before_append",
    "journal.after_append",
    "journal.before_publish",
    "journal.after_publish",
    "journal.before_fsync",
    "journal.after_fsync",
    "journal.before_recycle",
    "journal.after_rename",
    "journal.after_recycle",
    "intake.after_read",
    "compressor.before_encode",
    "compressor.after_encode",
    "writer.before_encode",
    "writer.before_commit",
    "writer.after_commit",
    "dispatcher.before_outcome",
    "dispatcher.after_outcome",
    "dispatcher.after_cursor",
    "dispatcher.before_retire",
    "quarantine.after_write",
)

_armed: dict[str, tuple[str, float, int]] = {}
_hits: dict[str, int] = {}


def arm(text: str) -> None:
    """Arm the failpoints named in ``text`` (see the module's docstring); "" disarms all."""
    _armed.clear()
    _hits.clear()
    for item in filter(None, text.split(";")):
        name, _, action = item.partition("=")
        if name not in NAMES:
            raise ValueError(f"no failpoint is called {name!r}")
        action, _, nth = action.partition("*")
        action, _, seconds = action.partition(":")
        if action not in ("kill", "error", "pause"):
            raise ValueError(f"failpoint action {action!r} is none of kill, error, pause")
        _armed[name] = (action, float(seconds or 0), int(nth or 0))


def hits(name: str) -> int:
    """How often an armed failpoint was reached in this process."""
    return _hits.get(name, 0)


def failpoint(name: str) -> None:
    """Do what a test has armed ``name`` with; in production nothing."""
    if _armed and name in _armed:
        _act(name)


def _act(name: str) -> None:
    action, seconds, nth = _armed[name]
    _hits[name] = _hits.get(name, 0) + 1
    if nth and _hits[name] != nth:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "error":
        raise OSError(errno.EIO, f"failpoint {name}")
    else:
        threading.Event().wait(seconds)


arm(os.environ.get("LIVINGAI_FAILPOINTS", ""))
