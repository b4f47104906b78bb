"""One question to the service of a state directory, over a connection of its own: for commands and
other programs that are no agents."""

from __future__ import annotations

import os
from typing import Any

from livingai.errors import LivingAIError, ServiceError, ServiceUnavailableError
from livingai.protocol.error_parts import error_from_parts
from livingai.protocol.frames import PROTOCOL_VERSION, REVISION, FrameBuffer, Message, frame
from livingai.protocol.refusals import refused
from livingai.protocol.verbs import Answer, Verb
from livingai.queue.directory import StateDirectory


def ask_service(
    directory: StateDirectory,
    store_url: str,
    verb: Verb[Answer],
    *arguments: Any,
    timeout_s: float = 30.0,
) -> Answer:
    """Ask the service of a directory one thing (:mod:`livingai.protocol.verbs`) over a connection
    of its own.

    Raises:
        ServiceUnavailableError: none is running, or it says nothing for ``timeout_s`` seconds.
        LivingAIError: the error that it answers with.
    """
    try:
        with directory.connect(timeout_s) as sock:
            sock.sendall(frame(Message.HELLO, PROTOCOL_VERSION, store_url, os.getpid(), REVISION))
            sock.sendall(frame(Message.REQUEST, 1, verb.name, list(arguments)))
            buffer = FrameBuffer()
            greeted = False
            while data := sock.recv(1 << 16):
                for message in buffer.feed(data):
                    greeted = greeted or message[0] == Message.HELLO
                    if message[0] == Message.RESPONSE:
                        if message[2]:
                            return verb.read(message[3])
                        raise error_from_parts(message[3])
                    if message[0] == Message.GOODBYE and message[1][0]:
                        error = error_from_parts(message[1])
                        raise error if greeted else refused(error, directory)
    except OSError as error:
        if isinstance(error, LivingAIError):
            raise
        raise ServiceUnavailableError(
            f"no service answers in {directory.path} ({error}); start one with `livingai serve`"
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        if isinstance(error, LivingAIError):
            raise
        raise ServiceError(f"the service sent a message that makes no sense: {error}") from error
    raise ServiceUnavailableError(f"the service in {directory.path} ended before it answered")
