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
from collections.abc import Iterator
from typing import Any, Final

from livingai.config import ServiceConfig
from livingai.failpoint import enter_process
from livingai.protocol.error_parts import error_parts
from livingai.protocol.frames import REVISION, FrameBuffer, Message, frame, revision_of
from livingai.service.logfile import log_to_stderr
from livingai.workers.process import die_with_parent, leave_signals_to_parent, yield_to_agents
from livingai.workers.store.role import Role

#: How long a worker waits for a request before it looks whether its store's files are still there.
_IDLE_MS: Final = 1000
#: Most that is received at once: enough for the request of any usual batch.
_RECEIVE_BYTES: Final = 262_144
#: Module and class by role.
_ROLES: Final = {
    "writer": ("livingai.workers.store.writer", "WriterRole"),
    "reader": ("livingai.workers.store.reader", "ReaderRole"),
    "housekeeper": ("livingai.workers.store.housekeeper", "HousekeeperRole"),
}


def _incoming(sock: socket.socket) -> Iterator[list[Any]]:
    """The dispatcher's messages, and an empty one whenever none has come for a while. Ends with
    the connection."""
    buffer = FrameBuffer()
    asked = select.poll()
    asked.register(sock, select.POLLIN)
    while True:
        if not asked.poll(_IDLE_MS):
            yield []
        elif data := sock.recv(_RECEIVE_BYTES):
            yield from buffer.feed(data)
        else:
            return


def main() -> int:
    """``main ROLE SOCKET_FD PARENT_PID``."""
    role, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    enter_process(role)
    leave_signals_to_parent()
    die_with_parent(parent)
    yield_to_agents()
    # OSError: the dispatcher is gone.
    with contextlib.suppress(OSError), socket.socket(fileno=fd) as sock:
        cls = _class_of(role)  # imported while the dispatcher is still on its way
        incoming = _incoming(sock)
        greeting = next(filter(None, incoming), None)
        if greeting is None:
            return 0
        _, config, *more = greeting
        log_to_stderr(role, config.get("log_format", "text"), logging.WARNING)
        revision = revision_of(more)  # a dispatcher may have been started by an earlier livingai
        with contextlib.closing(
            _build(cls, ServiceConfig.from_dict(config), sock, revision)
        ) as worker:
            sock.sendall(frame(Message.HELLO, os.getpid(), REVISION))
            for message in incoming:
                _serve(sock, message, worker, revision)
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


def _serve(sock: socket.socket, message: list[Any], worker: Role, revision: int) -> None:
    """Answer a request, or do what there is to do without one."""
    if not message:
        worker.idle()
        return
    _, number, verb, arguments = message
    try:
        reply = frame(Message.RESPONSE, number, True, worker.handle(verb, arguments))
    except Exception as error:
        reply = frame(Message.RESPONSE, number, False, error_parts(error, revision))
    sock.sendall(reply)


if __name__ == "__main__":
    sys.exit(main())
