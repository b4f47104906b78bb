"""What a service says to the service manager that runs it: systemd, or what speaks its protocol.

The protocol (sd_notify(3), sd_watchdog_enabled(3)): the manager puts the name of a Unix datagram
socket into ``NOTIFY_SOCKET``, and is sent lines ``NAME=value``. A name that begins with ``@`` is in
the abstract namespace: its first byte is zero. ``WATCHDOG_USEC`` says within how many microseconds
the manager wants the next ``WATCHDOG=1``, ``WATCHDOG_PID`` of which process. By its default the
manager listens to its main process only (``NotifyAccess=main``), so ``livingai serve`` itself sends
everything, and removes these variables from its environment: no process that it starts is to be
taken for it.

Nothing here fails a service: a manager that cannot be told is written to the log, once.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final

_log = logging.getLogger("livingai.service")
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
#: Longest value that is sent, in characters. A manager refuses datagrams that are much longer.
_LONGEST: Final = 500
#: Seconds that a manager which reads nothing may hold a message up.
_SEND_S: Final = 1.0


class ManagerSocket:
    """The socket of the service manager."""

    def __init__(self, address: str, watchdog_s: float = 0.0) -> None:
        """``address``: as in ``NOTIFY_SOCKET``."""
        self.address = address
        #: The manager wants to hear within so many seconds that the service works; 0: it does not.
        self.watchdog_s = watchdog_s
        self._told = False

    @classmethod
    def from_environment(
        cls, environment: MutableMapping[str, str] = os.environ
    ) -> ManagerSocket | None:
        """The socket that the environment names, which does not name it afterwards; None if there
        is none, or one of a kind that this process cannot send to (``vsock:...``)."""
        address, usec, pid = (environment.pop(name, "") for name in _VARIABLES)
        if not address:
            return None
        if address[0] not in "/@" or len(address) == 1:
            _log.warning("NOTIFY_SOCKET=%s is no Unix socket, so nobody is notified", address)
            return None
        meant = not pid or pid == str(os.getpid())
        watchdog_s = int(usec) / 1e6 if meant and usec.isdecimal() else 0.0
        return cls(address, watchdog_s)

    def send(self, **values: str | int) -> bool:
        """Send ``NAME=value`` lines in one message; whether the manager has got it. What is not
        printable in a value, such as the end of a line, is sent as a space: a value comes from an
        error message, say, and must not become a line of its own."""
        lines = (f"{name}={_in_one_line(str(value))}\n" for name, value in values.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(_SEND_S)
                sock.connect(self._name)
                sock.sendall("".join(lines).encode())
        except OSError as error:
            if not self._told:
                _log.warning("cannot notify the service manager at %s: %s", self.address, error)
            self._told = True
            return False
        return True

    @property
    def _name(self) -> str:
        return "\0" + self.address[1:] if self.address[0] == "@" else self.address


def _in_one_line(text: str) -> str:
    shown = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return shown.encode("utf-8", "replace").decode()[:_LONGEST]
