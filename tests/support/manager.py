"""A service manager for tests: the socket that systemd would listen on, and a service that runs
under it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.agents import environment
from tests.support.patience import Deadline, patience
from tests.support.place import Place

#: The address of a socket in the abstract namespace, which is no file.
ABSTRACT = "@livingai-test-{}"


class Manager:
    """Listens at an address as in ``NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("\0" + address[1:] if address[0] == "@" else address)

    def hear(self, timeout: float = 20.0) -> dict[str, str]:
        """The next message."""
        deadline = Deadline(timeout)
        while left := deadline.left():
            self._sock.settimeout(left)
            try:
                lines = self._sock.recv(1 << 16).decode().splitlines()
            except TimeoutError:
                continue
            return {name: value for name, _, value in (line.partition("=") for line in lines)}
        raise AssertionError(f"the manager heard nothing within {deadline}")

    def hear_until(self, name: str, text: str = "") -> list[dict[str, str]]:
        """All messages up to one in which ``name`` is there and has ``text`` in it."""
        deadline = Deadline(20.0)
        heard: list[dict[str, str]] = []
        while not heard or name not in heard[-1] or text not in heard[-1][name]:
            assert deadline.left(), f"no {name}={text} within {deadline}: {heard}"
            heard.append(self.hear())
        return heard

    def skip(self) -> None:
        """What was said until now does not count."""
        self._sock.setblocking(False)
        try:
            while True:
                self._sock.recv(1 << 16)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Listen no more."""
        self._sock.close()


class Managed:
    """``livingai serve`` under a manager."""

    def __init__(self, process: subprocess.Popen[str], manager: Manager) -> None:
        self.process = process
        self.manager = manager

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it; its exit status and what it said."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; its exit status and what it said."""
        said = self.process.communicate(timeout=patience(90))[0]
        return self.process.returncode, said


@contextmanager
def managed(
    place: Place, *options: str, watchdog_s: float = 0.0, abstract: bool = False,
    prefix: tuple[str, ...] = (), by_variable: bool = False,
) -> Iterator[Managed]:  # fmt: skip
    """A service that a manager has started, killed with the block if it is still there.
    ``by_variable``: the store is not on its command line."""
    address = ABSTRACT.format(place.tag) if abstract else str(place.folder / "notify")
    manager = Manager(address)
    variables = {"NOTIFY_SOCKET": address}
    store = [str(place.database)]
    if by_variable:
        variables["LIVINGAI_STORE"], store = store[0], []
    if watchdog_s:
        variables["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "livingai.cli", "serve", *store, *options],
        env=environment(**variables), cwd=place.folder, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield Managed(process, manager)
    finally:
        process.kill()
        process.communicate()
        manager.close()
        Path(place.folder / "notify").unlink(missing_ok=True)


def variables_of(pid: int) -> set[str]:
    """Names of the variables that a process was started with."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        return {os.fsdecode(each).partition("=")[0] for each in file.read().split(b"\0") if each}
