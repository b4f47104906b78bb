"""Ending the service of a state directory: ``livingai stop`` and ``livingai drain``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

import click
import psutil

from livingai.cli.exit_status import CommandError, ExitStatus
from livingai.cli.live import Seconds
from livingai.cli.place import PlacedCommand, store_argument
from livingai.cli.where import config_of, find
from livingai.errors import LivingAIError, ServiceUnavailableError
from livingai.inspection.directories import DirectoryView, is_directory
from livingai.protocol.verbs import DRAIN, STATUS
from livingai.service.service import Service
from livingai.stores.opening import open_store

#: Seconds that the service has to say how it is, and to end once it was asked to.
_PATIENCE_S: Final = 5.0
_END_S: Final = 60.0
#: The least of both, behind the end of a time-out: a service that works answers in milliseconds.
_LEAST_S: Final = 0.1
#: Seconds that a service which this command has started may take to end at once.
_STOP_S: Final = 2.0
#: Seconds between two lines that say how much is left, and between two attempts to ask.
_SAY_EVERY_S: Final = 5.0
_LOOK_S: Final = 0.1
#: Seconds between two looks whether it has ended.
_LOOK_END_S: Final = 0.02


def end_service(view: DirectoryView, timeout_s: float = _END_S) -> bool:
    """Have the service drain and end (SIGTERM), and wait for that; False if all that takes longer.

    Raises:
        ServiceUnavailableError: it does not answer.
        CommandError: it runs in another container.
    """
    deadline = time.monotonic() + timeout_s
    pid = view.ask(STATUS, timeout_s=min(_PATIENCE_S, timeout_s)).pids.supervisor
    here = view.supervisor()
    if here not in (pid, None):  # None: it has just ended
        raise CommandError(
            f"the service runs in another container, where its supervisor is process {pid}: run "
            "this command there"
        )
    if here is None:
        return True
    with suppress(psutil.NoSuchProcess):  # it has ended before the signal
        psutil.Process(pid).terminate()
    # By its lock: a process that its parent has not waited for seems to be there.
    while view.supervisor() == pid:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_END_S)
    return True


@click.command(cls=PlacedCommand)
@store_argument("store")
@click.option("--timeout", type=Seconds(), default=60.0, show_default=True, metavar="SECONDS",
              help="Give up after so many; a service that ran before goes on.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Let the service run on once everything is stored.")
def drain(store: str, timeout: float, keep: bool) -> None:
    """Wait until everything that was accepted so far is stored, then end the service.

    What agents save meanwhile is stored, too, as far as the store takes it; what they save later
    starts the next service. Exit status 1 if that takes longer than --timeout: nothing is lost, and
    what is left waits in the state directory. The service goes on storing it; if everything was
    stored in time and only its end takes longer, it ends on its own. Where no service runs and
    records wait, one is started for them, which is stopped with the command in any case. For
    ExecStop= or a preStop hook, with a time-out shorter than theirs.
    """
    view = find(store)
    deadline = time.monotonic() + timeout
    with _someone_to_store(store, view, timeout) as started:
        goes_on = (
            "the service goes on" if not started else "the service started for them is stopped"
        )
        if view.owner() is not None:
            _wait_until_stored(view, deadline, goes_on)
        ended = keep or view.owner() is None
        if not ended:
            try:
                ended = end_service(view, max(_LEAST_S, deadline - time.monotonic()))
            except ServiceUnavailableError:
                ended = view.owner() is None  # it was idle, and has ended by itself
        if not ended:
            if not started:
                goes_on = "the service was asked to end, and still works on that"
            _give_up(view, view.waiting(), goes_on)
    left = view.waiting()
    if left:
        click.echo(f"everything that was accepted until then is stored; {left} records came later")
    else:
        click.echo("everything is stored")


@contextmanager
def _someone_to_store(where: str, view: DirectoryView, timeout_s: float) -> Iterator[bool]:
    """A service for what waits, if none runs; yields whether it was started. It ends with the
    block: at once if that is left by an error, else it stores first what came meanwhile."""
    if view.owner() is not None or not view.waiting():
        yield False
        return
    deadline = time.monotonic() + timeout_s
    service = _started(where, view, timeout_s)
    try:
        yield True
    except BaseException:
        service.stop(drain=False, timeout=_STOP_S)
        raise
    service.stop(timeout=max(_STOP_S, deadline - time.monotonic()))


def _started(where: str, view: DirectoryView, timeout_s: float) -> Service:
    """A new service on the directory, which drains no longer than the command may take."""
    click.echo("no service runs; one is started for what waits", err=True)
    try:
        # A URL may bring credentials, which the directory does not have.
        store = view.open_store() if is_directory(where) else open_store(where)
        service = Service(store, view.path, config_of(where), drain_s=timeout_s)
        return service.start(timeout_s)
    except LivingAIError as error:
        raise CommandError(
            f"{view.waiting()} records wait in {view.path}, and no service could be started for "
            f"them ({error}); nothing is lost"
        ) from error


def _wait_until_stored(view: DirectoryView, deadline: float, goes_on: str) -> None:
    """Until all that was accepted before now is stored; a CommandError at the deadline."""
    asking = _Asking(view, deadline)
    asking.start()
    say_at = time.monotonic() + (1.0 if sys.stderr.isatty() else _SAY_EVERY_S)
    while asking.is_alive():
        asking.join(max(0.0, min(say_at, deadline) - time.monotonic()))
        if asking.is_alive() and time.monotonic() >= deadline:
            _give_up(view, view.waiting(), goes_on)
        if asking.is_alive() and time.monotonic() >= say_at:
            say_at = time.monotonic() + _SAY_EVERY_S
            click.echo(f"{view.waiting()} records are left", err=True)
    if asking.error is not None:
        raise asking.error


class _Asking(threading.Thread):
    """Waits for the service's answer; a service that dies over it is asked again."""

    def __init__(self, view: DirectoryView, deadline: float) -> None:
        super().__init__(name="livingai-drain", daemon=True)
        self._view, self._deadline = view, deadline
        self.error: LivingAIError | None = None

    def run(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            try:
                self._view.ask(DRAIN, timeout_s=left)
            except ServiceUnavailableError:
                if self._view.owner() is None and not self._view.waiting():
                    return
                time.sleep(_LOOK_S)
            except LivingAIError as error:
                self.error = error
                return
            else:
                return


def _give_up(view: DirectoryView, left: int, goes_on: str) -> NoReturn:
    """Raise a CommandError; ``goes_on``: what becomes of the service."""
    trouble = ""
    try:
        trouble = view.ask(STATUS, timeout_s=_LEAST_S).trouble
    except LivingAIError:
        trouble = view.report().trouble
    why = f" ({trouble})" if trouble else ""
    if left:
        what = f"{left} records are not stored{why}; nothing is lost, they wait in {view.path}"
    else:
        what = f"everything is stored, but the service has not ended{why}"
    raise CommandError(f"not within the time-out: {what}; {goes_on}", ExitStatus.PROBLEM)
