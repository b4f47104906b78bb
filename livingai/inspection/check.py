"""The check behind ``livingai check``: whether a state directory is consistent, in itself and with
its store.

Without a store: the checksums of every record, that no record is missing, that every record before
the cursor has its outcome, and that the hot cache's index agrees with the journals. It also lists
files that a crash left behind. With the store: what :mod:`.executions` and :mod:`.stored` verify.

It only reads, and it may run while agents and the service work: what changes during the check is
read again or left out.
"""

from __future__ import annotations

import os
import stat

from livingai.errors import CorruptRecordError, OddFileError
from livingai.inspection.executions import check_executions
from livingai.inspection.journal import check_journal
from livingai.inspection.report import Code, Report
from livingai.inspection.stored import check_stored
from livingai.queue.directory import StateDirectory, is_journal
from livingai.queue.journal import OWNER_LOCK
from livingai.queue.layout import SERVICE_STATE_BYTES
from livingai.queue.lock import owner_alive
from livingai.queue.manifest import MANIFEST
from livingai.queue.opening import what_is
from livingai.queue.quarantine import aside_paths, read_aside
from livingai.stores.base import Store
from livingai.stores.belonging import refuse_another

_NO_JOURNAL = "not a journal; nothing of livingai's, move it away"


def check_directory(path: str | os.PathLike[str], store: Store | None = None) -> Report:
    """Verify the state directory at ``path``, and with ``store`` (not open) what that has; changes
    nothing, except that a store of an earlier version is brought up to date as it is opened.

    Raises:
        DirectoryError: it is no state directory, or its manifest cannot be read.
        FormatVersionError: a newer livingai wrote it.
        DirectoryMismatchError: the store is another one than the directory's.
        StoreError: the store cannot be read.
    """
    directory = StateDirectory(path)
    directory.manifest()
    report = Report(directory.path)
    if store is not None:
        refuse_another(store, directory)
    _check_top(directory, report)
    _check_quarantine(directory, report)
    _check_journals(directory, report)
    if store is not None:
        with store:
            check_stored(directory, store, report)
            check_executions(store, report)
    return report


def _check_top(directory: StateDirectory, report: Report) -> None:
    names = set(os.listdir(directory.path))
    locks = (directory.lock, directory.supervisor_lock, directory.successor_lock)
    files = (directory.service_state, directory.log, *locks)
    for path in files:
        if odd := what_is(path):
            report.note(
                Code.ODD_FILE, os.path.basename(path), f"{odd} where a file should be; move it away"
            )
    name = os.path.basename(directory.service_state)
    state = os.lstat(directory.service_state) if name in names else None
    if state is None or (stat.S_ISREG(state.st_mode) and state.st_size < SERVICE_STATE_BYTES):
        report.note(Code.SERVICE_STATE, name, "missing or too short; the next agent makes it")
    for name in names:
        if name.startswith(".manifest-"):
            _litter(report, name, f"left from writing {MANIFEST}")
        elif name.startswith(".report-") and not _alive(directory.supervisor_lock):
            _litter(report, name, "left from writing service.report")
        elif name == "service.sock" and not _alive(directory.lock):
            _litter(report, name, "no service listens there; the next one replaces it")


def _alive(path: str) -> bool:
    """Whether a lock is held; False if its file cannot be read as one."""
    try:
        return owner_alive(path)
    except OddFileError:
        return False


def _litter(report: Report, where: str, what: str) -> None:
    report.counts["litter"] += 1
    report.note(Code.LEFTOVER, where, what)


def _check_journals(directory: StateDirectory, report: Report) -> None:
    try:
        names = sorted(os.listdir(directory.journals))
    except (FileNotFoundError, NotADirectoryError):
        report.note(Code.NO_JOURNALS, "journals", "the folder is missing")
        return
    for name in names:
        where = f"journals/{name}"
        path = os.path.join(directory.journals, name)
        if not _is_folder(path):
            if os.path.lexists(path):
                report.note(Code.NO_JOURNAL, where, _NO_JOURNAL)
        elif name.startswith(".gone-"):
            _litter(report, where, "left from removing a journal; the next service removes it")
        elif name.startswith(".new-"):
            if not _alive(os.path.join(path, OWNER_LOCK)):
                _litter(report, where, "left from making a journal; the service removes it")
        elif not is_journal(path):
            report.note(Code.NO_JOURNAL, where, _NO_JOURNAL)
        else:
            check_journal(directory, path, where, report)


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _check_quarantine(directory: StateDirectory, report: Report) -> None:
    try:
        names = os.listdir(directory.quarantine)
    except (FileNotFoundError, NotADirectoryError):
        report.note(Code.NO_QUARANTINE, "quarantine", "the folder is missing")
        return
    for name in names:
        if name.startswith(".aside-"):
            _litter(report, f"quarantine/{name}", "left from setting a record aside")
        elif ".odd" in name:
            report.note(Code.MOVED_ASIDE, f"quarantine/{name}", "was in the place of another file")
    for path in aside_paths(directory.quarantine):
        report.counts["quarantined"] += 1
        try:
            read_aside(path)
        except FileNotFoundError:
            report.counts["quarantined"] -= 1  # just queued again
        except (CorruptRecordError, OSError) as error:
            where = f"quarantine/{os.path.basename(path)}"
            report.note(Code.QUARANTINE_DAMAGED, where, f"cannot be read: {error}")
    if count := report.counts["quarantined"]:
        what = f"{count} records are set aside; see `livingai status`"
        report.note(Code.QUARANTINED, "quarantine", what)
