"""The handles of this process: one for each state directory in use, closed with its last user.

A forked child forgets its parent's handles and makes its own. An interpreter that exits without
closing its engines closes the handles in order.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading

from livingai.config import EngineConfig
from livingai.engine.handle import DirectoryHandle
from livingai.errors import LivingAIError
from livingai.queue.directory import StateDirectory
from livingai.stores.base import Store
from livingai.stores.belonging import enter

_log = logging.getLogger("livingai")

_handles: dict[str, DirectoryHandle] = {}
#: Held for each change of these dicts and of a handle's users, and for nothing that waits.
_lock = threading.Lock()
#: By path of a directory, held while an engine joins there, which may wait for its manifest's lock.
_opening: dict[str, threading.Lock] = {}


def acquire_handle(
    store: Store, directory: StateDirectory, config: EngineConfig
) -> DirectoryHandle:
    """This process's :class:`DirectoryHandle` for a directory, made if there is none; give it back
    with :func:`release_handle`."""
    with _lock:
        opening = _opening.setdefault(directory.path, threading.Lock())
    with opening:
        with _lock:
            handle = _handles.get(directory.path)
            if handle is not None:
                handle.users += 1
        if handle is None:
            handle = DirectoryHandle(store, directory, config)
            with _lock:
                handle.users += 1
                _handles[directory.path] = handle
            return handle
        try:
            enter(store, directory)
        except BaseException:
            release_handle(handle)
            raise
        return handle


def release_handle(handle: DirectoryHandle) -> None:
    """Give a :class:`DirectoryHandle` back; the last user closes it."""
    with _lock:
        handle.users -= 1
        if handle.users > 0 or handle.pid != os.getpid():
            return
        if _handles.get(handle.directory.path) is handle:
            del _handles[handle.directory.path]
    handle.close()


def _forget_after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent's lock may have been held while forking
    _lock = threading.Lock()
    _opening.clear()
    inherited = list(_handles.values())
    _handles.clear()
    for handle in inherited:
        handle.abandon()


def _close_at_exit() -> None:
    """An interpreter that exits without close(): hand everything over in order."""
    for handle in list(_handles.values()):
        if handle.pid == os.getpid():
            try:
                handle.close(at_exit=True)
            except (LivingAIError, OSError) as error:
                _log.warning("at exit: %s", error)
    _handles.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_close_at_exit)
