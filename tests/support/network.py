"""Two hosts on one wire, which can be cut: network namespaces that are joined by a veth pair.

A thread is on a host inside of ``with wire.on(host)``, and so is every thread and process that is
started there. The namespaces have no names and no processes of their own: they are gone as soon as
nobody is on them and the wire is closed, however the tests end.

What crosses the wire is lost without a word: nobody is told, no connection is reset. A direction is
lost by sending to a hardware address that nobody has, so that this needs no module of the kernel.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import pytest

_CLONE_NEWNET: Final = 0x40000000
_NOBODY: Final = "02:00:00:00:00:99"


@dataclass(frozen=True, slots=True)
class Host:
    """One end of the wire."""

    name: str
    address: str
    hardware: str
    #: Of the namespace.
    fd: int


class Wire:
    """A host for the store's server, and one for agents and their service. Use as a context
    manager; skips the test where the system does not let us."""

    def __init__(self) -> None:
        if why := _impossible():
            pytest.skip(why)
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.store = Host("store", "10.77.0.1", "02:00:00:00:00:01", _new_namespace())
        self.service = Host("service", "10.77.0.2", "02:00:00:00:00:02", _new_namespace())
        self._join()

    def _join(self) -> None:
        one, other = self.store, self.service
        there = f"/proc/{os.getpid()}/fd/{other.fd}"
        self._ip(one, f"link add {one.name} type veth peer name {other.name} netns {there}")
        for host, peer in ((one, other), (other, one)):
            self._ip(host, f"link set {host.name} address {host.hardware}")
            self._ip(host, f"addr add {host.address}/24 dev {host.name}")
            self._ip(host, "link set lo up")
            self._ip(host, f"link set {host.name} up")
            self._sends_to(host, peer, peer.hardware)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in (self._home, self.store.fd, self.service.fd):
            os.close(fd)

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[None]:
        """This thread is on ``host`` inside of the block."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(host.fd)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def unread(self, host: Host, port: int) -> int:
        """Bytes that have arrived at a host's port, and that nobody has read."""
        with self.on(host), open("/proc/thread-self/net/tcp", encoding="ascii") as sockets:
            lines = [line.split() for line in sockets.readlines()[1:]]
        established = [line for line in lines if line[3] == "01"]
        here = [line for line in established if int(line[1].partition(":")[2], 16) == port]
        return sum(int(line[4].partition(":")[2], 16) for line in here)

    # -- faults --

    def cut(self) -> None:
        """Nothing arrives any more, in either direction. The service's end of the wire stays up, so
        that the service cannot know."""
        self._ip(self.store, f"link set {self.store.name} down")

    def lose_answers(self) -> None:
        """What the store's server sends does not arrive; what it is sent does."""
        self._sends_to(self.store, self.service, _NOBODY)

    def lose_questions(self) -> None:
        """What the service sends does not arrive; the server's words do."""
        self._sends_to(self.service, self.store, _NOBODY)

    def slow(self, kbytes_s: int) -> None:
        """What the service sends takes its time from now on."""
        rate = f"root tbf rate {kbytes_s}kbps burst 16kb latency 1s"
        self._run(self.service, "tc", "qdisc", "replace", "dev", "service", *rate.split())

    def heal(self) -> None:
        """All is as it was, but for the pace."""
        self._ip(self.store, f"link set {self.store.name} up")
        for host, peer in ((self.store, self.service), (self.service, self.store)):
            self._sends_to(host, peer, peer.hardware)

    def _sends_to(self, host: Host, peer: Host, hardware: str) -> None:
        where = f"{peer.address} lladdr {hardware} dev {host.name} nud permanent"
        self._ip(host, f"neigh replace {where}")

    def _ip(self, host: Host, command: str) -> None:
        self._run(host, "ip", *command.split())

    def _run(self, host: Host, *command: str) -> None:
        with self.on(host):
            told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told.returncode == 0, f"{command}: {told.stderr}"


@cache
def _impossible() -> str:
    """Why there can be no wire here; "" if there can."""
    if shutil.which("ip") is None:
        return "no network namespaces here (ip, of iproute2, is not installed)"
    try:
        os.close(_new_namespace())
    except OSError as error:
        return f"no network namespaces here (unshare: {error.strerror}; root may)"
    return ""


def _new_namespace() -> int:
    """A descriptor of a network namespace that nobody is on. Raises OSError."""
    found: list[int | OSError] = []

    def make() -> None:
        try:
            _check(_libc().unshare(_CLONE_NEWNET))
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=make)  # it ends there, nobody comes back
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def _enter(fd: int) -> None:
    _check(_libc().setns(fd, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
