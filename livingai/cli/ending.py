"""Ending the service of a state directory: ``livingai stop`` and ``livingai drain``."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import nullcontext, suppress
from typing import Final

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
#: Seconds between two lines that say how much is left, and between two attempts to ask.
_SAY_EVERY_S: Final = 5.0
_LOOK_S: Final = 0.1
#: Seconds between two looks whether it has ended.
_LOOK_END_S: Final = 0.02


def end_service(view: DirectoryView, timeout_s: float = _END_S) -> bool:
    """Have the service drain and end (SIGTERM), and wait for that; False if it takes longer.

    Raises:
        ServiceUnavailableError: it does not answer.
        CommandError: it runs in another container.
    """
    pid = view.ask(STATUS, timeout_s=_PATIENCE_S).pids.supervisor
    here = view.supervisor()
    if here not in (pid, None):  # None: it has just ended
        raise CommandError(
            f"the service runs in another container, where its supervisor is process {pid}: run "
            "this command there"
        )
    if here is None:
        return True
    deadline = time.monotonic() + timeout_s
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
              help="Give up after so many; the service goes on.")  # fmt: skip
@click.option("--keep", is_flag=True, help="Let the service run on once everything is stored.")
def drain(store: str, timeout: float, keep: bool) -> None:
    """Wait until everything that was accepted so far is stored, then end the service.

    What agents save meanwhile is stored, too, as far as the store takes it; what they save later
    starts the next service. Exit status 1 if that takes longer than --timeout: nothing is lost,
    what is left waits in the state directory, and the service goes on storing it. Where no service
    runs and records wait, one is started for them. For a preStop hook or ExecStop=, with a time-out
    shorter than theirs.
    """
    view = find(store)
    deadline = time.monotonic() + timeout
    with _someone_to_store(store, view, timeout):
        if view.owner() is not None:
            _wait_until_stored(view, deadline)
        ended = keep or view.owner() is None
        if not ended:
            try:
                ended = end_service(view, max(0.1, deadline - time.monotonic()))
            except ServiceUnavailableError:
                ended = view.owner() is None  # it was idle, and has ended by itself
    left = view.waiting()
    if not ended:
        _give_up(view, left)
    if left:
        click.echo(f"everything that was accepted until then is stored; {left} records came later")
    else:
        click.echo("everything is stored")


def _someone_to_store(
    where: str, view: DirectoryView, timeout_s: float
) -> Service | nullcontext[None]:
    """A service for what waits, if none runs; it ends with the block."""
    if view.owner() is not None or not view.waiting():
        return nullcontext()
    click.echo("no service runs; one is started for what waits", err=True)
    try:
        # A URL may bring credentials, which the directory does not have.
        store = view.open_store() if is_directory(where) else open_store(where)
        return Service(store, view.path, config_of(where)).start(timeout_s)
    except LivingAIError as error:
        raise CommandError(
            f"{view.waiting()} records wait in {view.path}, and no service could be started for "
            f"them ({error}); nothing is lost"
        ) from error


def _wait_until_stored(view: DirectoryView, deadline: float) -> None:
    """Until all that was accepted before now is stored, or the deadline."""
    asking = _Asking(view, deadline)
    asking.start()
    say_at = time.monotonic() + (1.0 if sys.stderr.isatty() else _SAY_EVERY_S)
    while asking.is_alive():
        asking.join(max(0.0, min(say_at, deadline) - time.monotonic()))
        if asking.is_alive() and time.monotonic() >= deadline:
            _give_up(view, view.waiting())
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


def _give_up(view: DirectoryView, left: int) -> None:
    trouble = ""
    try:
        trouble = view.ask(STATUS, timeout_s=_PATIENCE_S).trouble
    except LivingAIError:
        trouble = view.report().trouble
    why = f" ({trouble})" if trouble else ""
    what = f"{left} records are not stored{why}" if left else f"the service has not ended{why}"
    raise CommandError(
        f"not within the time-out: {what}; nothing is lost, they wait in {view.path}",
        ExitStatus.PROBLEM,
    )
