"""Named failpoints: places where a test makes the process die, fail or pause.

In production a failpoint costs one test of an empty dict. A test arms them in a child process
through the environment::

    LIVINGAI_TESTING=1
    LIVINGAI_FAILPOINTS="journal.before_fsync=kill*1;writer.before_commit@writer=error*2"
    LIVINGAI_FAILPOINT_TOKENS=/a/folder

Without ``LIVINGAI_TESTING=1`` nothing is armed, and a warning says so; with it, a warning says what
is armed. ``kill`` is SIGKILL to the process itself, ``error`` raises :class:`OSError` (EIO),
``pause:S`` sleeps S seconds. ``*N`` lets it act at the N-th hit of a process only (default: every
hit), ``@KIND`` only in processes of that kind.

With a folder for tokens each failpoint acts once in all processes together: the one that makes the
file of its name there. So a process that is started again does not die again at the same place, and
a test sees in the file (kind and pid) that the place was reached.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

#: The kinds of processes. An agent is whatever has not called :func:`enter_process`.
KINDS: Final = (
    "agent", "command", "supervisor", "dispatcher", "compressor", "writer", "reader", "housekeeper",
)  # fmt: skip

_AGENT: Final = ("agent",)
_COMMAND: Final = ("command",)
_COMPRESSOR: Final = ("compressor",)
_DISPATCHER: Final = ("dispatcher",)
_HOUSEKEEPER: Final = ("housekeeper",)
_SUPERVISOR: Final = ("supervisor",)
_WRITER: Final = ("writer",)

#: Every failpoint of the code base, and the kinds of processes in which the kill matrix of the
#: tests hits it (tests/integration/service/test_kill_matrix.py); it has to have a cell for each.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "create.before_rename": _AGENT,
    "create.after_rename": _AGENT,
    "takeover.before_mark": _AGENT,
    "takeover.after_mark": _AGENT,
    "patch.before_base": _AGENT,
    "journal.before_append": _AGENT,
    "journal.after_append": _AGENT,
    "journal.before_publish": _AGENT,
    "journal.after_publish": _AGENT,
    "journal.before_fsync": _AGENT,
    "journal.after_fsync": _AGENT,
    "rotate.after_create": _AGENT,
    "rotate.after_seal": _AGENT,
    "journal.before_recycle": _AGENT,
    "journal.after_rename": _AGENT,
    "journal.after_recycle": _AGENT,
    "supervisor.before_start": _SUPERVISOR,
    "supervisor.after_start": _SUPERVISOR,
    "intake.after_read": _DISPATCHER,
    "compressor.before_encode": _COMPRESSOR,
    "compressor.after_encode": _COMPRESSOR,
    "writer.before_encode": _WRITER,
    "writer.before_batch": _WRITER,
    "writer.before_commit": _WRITER,
    "sqlite.before_commit": ("writer", "housekeeper"),
    "sqlite.after_commit": ("writer", "housekeeper"),
    "writer.after_commit": _WRITER,
    "writer.before_claim": _WRITER,
    "writer.after_claim": _WRITER,
    "housekeeper.before_drop": _HOUSEKEEPER,
    "housekeeper.after_drop": _HOUSEKEEPER,
    "housekeeper.before_prune": _HOUSEKEEPER,
    "housekeeper.after_prune": _HOUSEKEEPER,
    "housekeeper.before_fork": _HOUSEKEEPER,
    "housekeeper.after_fork": _HOUSEKEEPER,
    "dispatcher.before_outcome": _DISPATCHER,
    "dispatcher.after_outcome": _DISPATCHER,
    "dispatcher.before_cursor": _DISPATCHER,
    "dispatcher.after_cursor": _DISPATCHER,
    "dispatcher.after_tell": _DISPATCHER,
    "dispatcher.before_retire": _DISPATCHER,
    "retire.after_rename": _DISPATCHER,
    "dispatcher.before_drain": _DISPATCHER,
    "quarantine.before_rename": _DISPATCHER,
    "quarantine.after_write": _DISPATCHER,
    "requeue.after_append": _COMMAND,
    "requeue.before_unlink": _COMMAND,
    "resolve.after_claim": _COMMAND,
    "resolve.after_save": _COMMAND,
    "migrate.before_commit": _COMMAND,
    "migrate.after_commit": _COMMAND,
    "relocate.after_manifest": _COMMAND,
    "relocate.before_done": _COMMAND,
    "repair.before_move": _COMMAND,
    "repair.after_move": _COMMAND,
    "repair.after_make": _COMMAND,
    "repair.after_store": _COMMAND,
    # Of adapters: the tests of their frameworks kill there (tests/frameworks).
    "thread.before_delete": _AGENT,
    "thread.delete_marked": _AGENT,
    "thread.source_collected": _AGENT,
    "thread.delete_removed": _AGENT,
    "thread.copy_begun": _AGENT,
    "thread.copy_named": _AGENT,
    "thread.copy_done": _AGENT,
    "thread.prune_begun": _AGENT,
    "thread.prune_marked": _AGENT,
    "thread.dropped": _AGENT,
    "thread.prune_unmarked": _AGENT,
}

_armed: dict[str, tuple[str, str, float, int]] = {}
_watcher: Callable[[str], None] | None = None
_hits: dict[str, int] = {}
_kind = "agent"
_tokens = ""


def arm(text: str, tokens: str = "") -> None:
    """Arm the failpoints named in ``text`` (see the module's docstring); "" disarms all."""
    global _tokens  # noqa: PLW0603 - a process has one set of failpoints
    _armed.clear()
    _hits.clear()
    _tokens = tokens
    armed: dict[str, tuple[str, str, float, int]] = {}
    for item in filter(None, text.split(";")):
        place, _, action = item.partition("=")
        name, _, kind = place.partition("@")
        if name not in NAMES:
            raise ValueError(f"no failpoint is called {name!r}")
        if kind and kind not in KINDS:
            raise ValueError(f"no process is of the kind {kind!r}")
        action, _, nth = action.partition("*")
        action, _, seconds = action.partition(":")
        if action not in ("kill", "error", "pause"):
            raise ValueError(f"failpoint action {action!r} is none of kill, error, pause")
        armed[name] = (action, kind, float(seconds or 0), int(nth or 0))
    _armed.update(armed)


def watch(watcher: Callable[[str], None]) -> None:
    """Have ``watcher(name)`` called at each failpoint of this process from now on, instead of what
    is armed: a simulation gives the turn to another actor there."""
    global _watcher  # noqa: PLW0603 - a process has one watcher
    _watcher = watcher
    _armed[""] = ("pause", "", 0.0, 0)


def enter_process(kind: str) -> None:
    """This process is of that kind (one of :data:`KINDS`)."""
    global _kind  # noqa: PLW0603 - a process has one kind
    if kind not in KINDS:
        raise ValueError(f"no process is of the kind {kind!r}")
    _kind = kind


def hits(name: str) -> int:
    """How often an armed failpoint was reached in this process."""
    return _hits.get(name, 0)


def failpoint(name: str) -> None:
    """Do what a test has armed ``name`` with; in production nothing. Where anything is armed, a
    name that is not in the table is refused (LookupError)."""
    if _armed:
        _act(name)


def _act(name: str) -> None:
    if name not in NAMES:
        raise LookupError(f"the failpoint {name!r} is not in the table of livingai/failpoint.py")
    if _watcher is not None:
        _watcher(name)
        return
    if name not in _armed:
        return
    action, kind, seconds, nth = _armed[name]
    if kind and kind != _kind:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if (nth and _hits[name] != nth) or (_tokens and not _take_token(name)):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "error":
        raise OSError(errno.EIO, f"failpoint {name}")
    else:
        threading.Event().wait(seconds)


def _take_token(name: str) -> bool:
    """Whether this process is the first that acts at the failpoint."""
    try:
        fd = os.open(os.path.join(_tokens, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    os.write(fd, f"{_kind} {os.getpid()}\n".encode())
    os.close(fd)
    return True


def arm_from_environment() -> None:
    """Arm what the environment says, as the module's docstring describes."""
    text = os.environ.get("LIVINGAI_FAILPOINTS", "")
    if not text:
        return
    import logging  # noqa: PLC0415 - only tests get here

    log = logging.getLogger("livingai.failpoint")
    if os.environ.get("LIVINGAI_TESTING") != "1":
        log.warning("LIVINGAI_FAILPOINTS is ignored: it works with LIVINGAI_TESTING=1 only")
        return
    arm(text, os.environ.get("LIVINGAI_FAILPOINT_TOKENS", ""))
    log.warning("FAILPOINTS ARE ARMED, this process is made to fail: %s", text)


arm_from_environment()
