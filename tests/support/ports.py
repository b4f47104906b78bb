"""Ports for servers that are killed and started again on the same one."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Seeded by the operating system: which port it is must not depend on a test's seed.
_random = random.SystemRandom()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no process listens on, and that the kernel assigns to none.

    One of those that it gives to outgoing connections would be gone, now and then, when a killed
    server wants it again.
    """
    for _ in range(100):
        port = _random.randrange(_FIRST, _ephemeral())
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def _ephemeral() -> int:
    """The first port that the kernel gives to outgoing connections."""
    try:
        first = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
    return first if first > _FIRST + 1000 else 32_768
