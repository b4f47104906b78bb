"""A process that talks to the store: a writer, the reader, or the housekeeper.

It does one request after the other, and ends when the connection does.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import select
import socket
import sys
from typing import Any, Final

from livingai.config import ServiceConfig
from livingai.protocol.error_parts import error_parts
from livingai.protocol.frames import LENGTH, REVISION, Message, frame, parse, revision_of
from livingai.workers.process import die_with_parent, leave_signals_to_parent, yield_to_agents
from livingai.workers.store.role import Role

#: How long a worker waits for a request before it looks whether its store's files are still there.
_IDLE_MS: Final = 1000
#: Module and class by role.
_ROLES: Final = {
    "writer": ("livingai.workers.store.writer", "WriterRole"),
    "reader": ("livingai.workers.store.reader", "ReaderRole"),
    "housekeeper": ("livingai.workers.store.housekeeper", "HousekeeperRole"),
}


def _receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    with memoryview(data) as view:
        at = 0
        while at < size:
            got = sock.recv_into(view[at:])
            if not got:
                raise EOFError
            at += got
    return bytes(data)


def _message(sock: socket.socket) -> list[Any]:
    (length,) = LENGTH.unpack(_receive(sock, LENGTH.size))
    return parse(_receive(sock, length))


def main() -> int:
    """``main ROLE SOCKET_FD PARENT_PID``."""
    role, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    leave_signals_to_parent()
    die_with_parent(parent)
    yield_to_agents()
    logging.basicConfig(format=f"%(asctime)s {role} %(levelname)s %(message)s")
    # EOFError, OSError: the dispatcher has closed the connection, or is gone.
    with contextlib.suppress(EOFError, OSError), socket.socket(fileno=fd) as sock:
        cls = _class_of(role)  # imported while the dispatcher is still on its way
        _, config, *more = _message(sock)
        revision = revision_of(more)  # a dispatcher may have been started by an earlier livingai
        with contextlib.closing(_build(cls, ServiceConfig(**config), sock, revision)) as worker:
            sock.sendall(frame(Message.HELLO, os.getpid(), REVISION))
            _serve(sock, worker, revision)
    return 0


def _build(cls: type[Role], config: ServiceConfig, sock: socket.socket, revision: int) -> Role:
    """The role, on its store. Where that fails, the dispatcher hears why before we end."""
    try:
        return cls.of(config)
    except Exception as error:
        sock.sendall(frame(Message.GOODBYE, error_parts(error, revision)))
        raise


def _class_of(role: str) -> type[Role]:
    """The class of a role; imported only here, a writer needs no housekeeping."""
    module, name = _ROLES[role]
    found: type[Role] = getattr(importlib.import_module(module), name)
    return found


def _serve(sock: socket.socket, worker: Role, revision: int) -> None:
    asked = select.poll()
    asked.register(sock, select.POLLIN)
    while True:
        while not asked.poll(_IDLE_MS):
            worker.idle()
        _, number, verb, arguments = _message(sock)
        try:
            reply = frame(Message.RESPONSE, number, True, worker.handle(verb, arguments))
        except Exception as error:
            reply = frame(Message.RESPONSE, number, False, error_parts(error, revision))
        sock.sendall(reply)


if __name__ == "__main__":
    sys.exit(main())
