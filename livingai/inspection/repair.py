"""The repair behind ``livingai check --repair``: damage is moved aside, and nothing is deleted.

Rules:

1. It works on a directory that no service and no living agent uses, and keeps services away with
   the locks of supervisor and dispatcher while it does.
2. It acts on what :mod:`livingai.inspection.check` finds. A damaged thing goes to ``quarantine/``
   first, under a name of its own, then a new one is made in its place. So a repair that is killed
   leaves something missing or half made: the next one finds that, and goes on.
3. What can be read behind damage is stored by the next service. Only what the store has lost, and
   the journals still have, is stored by the repair itself: no service looks for that.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Final

from livingai.errors import DirectoryInUseError, OddFileError
from livingai.inspection.check import check_directory
from livingai.inspection.journal_repair import repair_journals, repair_name
from livingai.inspection.report import Code, Finding
from livingai.inspection.store_repair import store_again
from livingai.inspection.workbench import Repaired, Workbench
from livingai.queue.directory import StateDirectory
from livingai.queue.lock import OwnerLock, owner_alive
from livingai.queue.opening import sync_path, what_is
from livingai.queue.owners import agent_alive
from livingai.stores.base import Store
from livingai.stores.belonging import refuse_another, refuse_copy

#: What a crash left half written is moved aside after this time; a process may be writing it now.
_LEFTOVER_S: Final = 60.0


def repair_directory(
    path: str | os.PathLike[str], store: Store | None = None, *, repaired: Repaired | None = None
) -> Repaired:
    """Repair the state directory at ``path``. With ``store`` (not open), what the journals still
    have, and the store has not though it was stored, is stored again. What is done is noted in
    ``repaired`` at once, so it is known if the repair fails.

    Raises:
        DirectoryInUseError: a service or a living agent uses it.
        DirectoryError, StoreError: as :func:`~livingai.inspection.check.check_directory`.
        OSError: something cannot be moved or made; the repair can be made again.
    """
    directory = StateDirectory(path)
    directory.manifest()
    if store is not None:
        refuse_another(store, directory)
        refuse_copy(store, directory)
    repaired = repaired if repaired is not None else Repaired(directory.path)
    bench = Workbench(directory, repaired)
    if any(_is_held(path) for path in (directory.supervisor_lock, directory.lock)):
        raise _in_use(bench, "a service, or another repair")
    _refuse_if_used(bench)
    bench.make_folders()
    found = check_directory(directory.path).findings
    with _kept_from_services(bench):
        _refuse_if_used(bench)
        _repair_top(bench, found)
        for name in sorted(os.listdir(directory.journals)):
            repair_name(bench, name)
        repair_journals(bench)
        if store is not None:
            store_again(bench, store)
    for folder in {directory.path, directory.journals, directory.quarantine}:
        sync_path(folder)
    return repaired


def _refuse_if_used(bench: Workbench) -> None:
    """Raise DirectoryInUseError if a service answers, or an agent lives."""
    directory = bench.directory
    if _answers(directory):
        raise _in_use(bench, "a service")
    if not os.path.isdir(directory.journals):
        return
    for path in directory.journal_paths():
        if _may_live(directory, path):
            raise _in_use(bench, f"the process that writes {path}")


def _is_held(lock: str) -> bool:
    """Whether a process holds a lock; what is odd in its place is moved aside later."""
    try:
        return owner_alive(lock)
    except OddFileError:
        return False


def _may_live(directory: StateDirectory, path: str) -> bool:
    """Whether a journal's owner lives; the repair of the journal looks closer at an odd lock."""
    try:
        return agent_alive(directory, path)
    except OddFileError:
        return False


def _answers(directory: StateDirectory) -> bool:
    try:
        directory.connect(1.0).close()
    except OSError:
        return False
    return True


def _in_use(bench: Workbench, who: str) -> DirectoryInUseError:
    path = bench.directory.path
    unchanged = "" if bench.changed else ", and nothing was changed"
    return DirectoryInUseError(
        f"{who} uses {path}{unchanged}: end the agents, run `livingai stop {path}`, and try again"
    )


@contextlib.contextmanager
def _kept_from_services(bench: Workbench) -> Iterator[None]:
    """Inside the block no service begins."""
    directory = bench.directory
    with contextlib.ExitStack() as held:
        for path in (directory.supervisor_lock, directory.lock):
            if odd := what_is(path):
                bench.move_aside(path, odd)
            lock = OwnerLock.acquire(path)
            if lock is None:
                raise _in_use(bench, "a service, or another repair")
            held.callback(lock.release)
        yield


def _repair_top(bench: Workbench, found: list[Finding]) -> None:
    """What lies beside the journals, and in the quarantine."""
    held = (bench.directory.supervisor_lock, bench.directory.lock)  # they were dealt with
    for finding in found:
        path = os.path.join(bench.directory.path, finding.where)
        if path in held:
            continue
        leftover = finding.code is Code.LEFTOVER and _is_ours_to_move(path)
        odd = finding.code is Code.ODD_FILE and what_is(path)  # it still is
        if leftover or odd or finding.code is Code.QUARANTINE_DAMAGED:
            bench.move_aside(path, finding.what)


def _is_ours_to_move(path: str) -> bool:
    """Whether nobody else removes it: the service does so with what is left of journals, and with
    its socket."""
    name = os.path.basename(path)
    if not name.startswith((".manifest-", ".report-", ".aside-")):
        return False
    try:
        return time.time() - os.lstat(path).st_mtime > _LEFTOVER_S
    except FileNotFoundError:  # renamed by the process that has written it
        return False
