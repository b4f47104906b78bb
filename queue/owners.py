"""Is the process that made a journal alive? The service takes the locks of dead owners, so a lock
that is held does not say so by itself."""

from __future__ import annotations

import os

from livingai.queue.directory import StateDirectory
from livingai.queue.lock import owner_identity, owner_pid
from livingai.queue.new_journal import OWNER_LOCK


def agent_alive(directory: StateDirectory, journal: str) -> bool:
    """Whether the process that made a journal (the path of its folder) lives.

    Raises:
        OddFileError: its lock is no file of ours.
        OSError: it cannot be looked at now.
    """
    lock = os.path.join(journal, OWNER_LOCK)
    holder = owner_pid(lock)
    while holder is not None:
        if _is_the_services(directory, lock, holder):
            return False
        again = owner_pid(lock)
        if again == holder:
            return True
        holder = again  # a service has ended meanwhile, or begun
    return False


def agents_alive(directory: StateDirectory) -> list[str]:
    """The journals whose owners live. Raises as :func:`agent_alive`."""
    return [path for path in directory.journal_paths() if agent_alive(directory, path)]


def _is_the_services(directory: StateDirectory, lock: str, holder: int) -> bool:
    service = owner_pid(directory.lock)
    if service is None or service != holder:
        return False
    if holder:
        return True
    identity = owner_identity(lock)  # of another container: its processes have no number here
    return bool(identity) and identity == owner_identity(directory.lock)
