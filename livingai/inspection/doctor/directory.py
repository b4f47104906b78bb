"""The state directory and its service."""

from __future__ import annotations

import os
import shlex
import time
from typing import Final

import psutil

from livingai._version import __version__
from livingai.errors import DirectoryError, LivingAIError
from livingai.inspection.directories import DirectoryView
from livingai.inspection.doctor.ailment import Examination, Grade
from livingai.inspection.health import Health, Presence, health_of
from livingai.stores.whereabouts import place_of, store_url_here

#: Seconds that the service has for an answer.
_PATIENCE_S: Final = 5.0
#: Seconds by which a time that was written down may be ahead of the clock.
_AHEAD_S: Final = 5.0
#: Seconds for which a record may wait while all is well.
_OLD_S: Final = 10.0


def examine_directory(found: Examination, view: DirectoryView, named: str) -> None:
    """All that can be seen without the store. ``named``: the store as a command names it."""
    found.facts["state directory"] = view.path
    try:
        view.directory.check_owner()
    except (DirectoryError, OSError) as error:
        found.find(
            "permissions", Grade.ERROR, str(error), "agents refuse such a directory",
            f"chown or chmod 700 {shlex.quote(view.path)}",
        )  # fmt: skip
    _place(found, view)
    try:
        health = health_of(view, _PATIENCE_S)
    except (LivingAIError, OSError) as error:
        found.find(
            "service", Grade.ERROR, f"the service answers with an error: {error}",
            "commands and agents cannot use it", f"livingai stop {named}",
        )  # fmt: skip
        return
    _service(found, view, health, named)
    _clock(found, health)
    if health.quarantined:
        first = health.quarantined[0]
        found.find(
            "quarantine", Grade.ERROR,
            f"{len(health.quarantined)} records are quarantined, the first one because: "
            f"{first.reason}",
            "the store refuses them for good; they are kept, and are not in the store",
            f"livingai requeue {named}",
        )  # fmt: skip


def _place(found: Examination, view: DirectoryView) -> None:
    """Is the database where the manifest has it?"""
    url = view.store_url
    place = place_of(url)
    if place is None or os.path.exists(place):
        return
    here = store_url_here(view.directory)
    if here != url:
        found.find(
            "moved", Grade.WARNING, f"directory and database were moved: {url} is {here} now",
            "agents find them by the new place; what names the old one does not",
            f"livingai relocate {shlex.quote(str(place_of(here)))}",
        )  # fmt: skip
    else:
        found.find(
            "database-gone", Grade.ERROR, f"there is no database {place}",
            "what waits in the journals is for that one, and a new one would be empty",
            "if it was moved: livingai relocate NEW_PLACE; if it is lost: livingai restore",
        )  # fmt: skip


def _service(found: Examination, view: DirectoryView, health: Health, named: str) -> None:
    status = health.status
    if status is not None:
        found.facts["service"] = f"running, livingai {status.version}"
        if status.version != __version__:
            found.find(
                "versions", Grade.WARNING,
                f"the service is livingai {status.version}, this is {__version__}",
                "what the newer one can do may be refused", f"livingai stop {named}",
            )  # fmt: skip
        if status.trouble:
            found.find(
                "store-trouble", Grade.ERROR, status.trouble,
                "saves are accepted and wait in the journals; when these are full, saves wait",
                "make the store reachable; the service tries again by itself",
            )  # fmt: skip
        elif status.flow.oldest_s > _OLD_S:
            found.find(
                "backlog", Grade.WARNING,
                f"{status.flow.queued} records wait, the oldest for {status.flow.oldest_s:.0f} s",
                "the store takes less than the agents save",
                f"livingai stat --store {named}; see docs/PERFORMANCE.md",
            )  # fmt: skip
        return
    if health.presence is Presence.SILENT:
        found.facts["service"] = f"process {health.silent_pid} does not answer"
        found.find(
            "silent-service", Grade.ERROR,
            f"the service's process {health.silent_pid} {_state(health.silent_pid)}and does not "
            "answer", "agents save on, and nothing is stored", _wake(health.silent_pid),
        )  # fmt: skip
        return
    found.facts["service"] = "none runs"
    if os.path.lexists(os.path.join(view.path, "service.sock")):
        found.find(
            "stale-socket", Grade.NOTE, f"the last service was killed: {view.path}/service.sock is "
            "left", "the next service replaces it", "",
        )  # fmt: skip
    if health.report.trouble:
        found.find(
            "last-service", Grade.ERROR, f"the last service had trouble: {health.report.trouble}",
            "the next one may have it, too", f"livingai serve {named}",
        )  # fmt: skip
    if health.waiting:
        found.find(
            "waiting", Grade.WARNING, f"{health.waiting} records wait, and no service runs",
            "they are in the journals, and not in the store, until a service runs",
            f"livingai drain --store {named}",
        )  # fmt: skip


def _state(pid: int | None) -> str:
    """What a process does, as the beginning of a sentence that goes on."""
    try:
        status = psutil.Process(pid).status() if pid else ""
    except psutil.Error:
        return "is not seen here (another container?) "
    if status == psutil.STATUS_STOPPED:
        return "is stopped (SIGSTOP) "
    return f"is there ({status}) " if status else ""


def _wake(pid: int | None) -> str:
    try:
        if pid and psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            return f"kill -CONT {pid}"
    except psutil.Error:
        pass
    again = "look again in a minute: it may be starting or ending"
    return (
        f"{again}; else kill -KILL {pid}: another one is started, nothing is lost" if pid else again
    )


def _clock(found: Examination, health: Health) -> None:
    """Times that were written down must not be ahead of the clock."""
    started = health.status.started_at if health.status is not None else health.report.ended_at
    ahead = started - time.time()
    if ahead > _AHEAD_S:
        found.find(
            "clock-back", Grade.WARNING,
            f"the clock is {ahead:.0f} s behind a time that the service has written down",
            "it was set back: ages, --since and retention by age are wrong meanwhile (order and "
            "outcomes are not: they go by another clock)", "timedatectl set-ntp true",
        )  # fmt: skip
