"""Requests of agents: reads that see what is queued, housekeeping, and the service's status."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import LivingAIError, ServiceUnavailableError, StoreDamagedError
from livingai.protocol.error_parts import error_parts
from livingai.protocol.frames import Message, frame
from livingai.protocol.verbs import (
    CLAIM,
    DELETE,
    FORK,
    PRUNE,
    Answerer,
    Barrier,
    Verb,
    verb_named,
)
from livingai.protocol.watched import page_to_wire
from livingai.queue.record import execution_hash
from livingai.workers.dispatcher.agent_connection import Agent
from livingai.workers.dispatcher.ports import RequestPort
from livingai.workers.dispatcher.store_link import StoreLink

_log = logging.getLogger("livingai.service")
#: A read that was under way when the reader died is asked so often; another one may be the cause.
_READ_TRIES = 3
#: Seconds between two applications of the retention policy.
_RETAIN_EVERY_S = float(os.environ.get("LIVINGAI_RETAIN_EVERY_S", "60"))

#: What writes to the store: refused while that is in doubt (``dispatcher/doubt.py``).
_WRITES = frozenset({CLAIM.name, DELETE.name, FORK.name, PRUNE.name})


class Requests:
    """Answers agents. Each request is a task of its own and ends with its agent's connection."""

    def __init__(self, config: ServiceConfig, port: RequestPort) -> None:
        self._port = port
        self._reader = StoreLink(config, "reader", port.kick)
        #: Retention, deletes and forks: slow work that no read or write should wait for.
        self._housekeeper = StoreLink(config, "housekeeper", port.kick)

    @property
    def trouble(self) -> str:
        """A message for the agents if the reader or the housekeeper keeps dying; else ""."""
        return self._reader.trouble or self._housekeeper.trouble

    async def answer(self, agent: Agent, number: int, name: str, arguments: list[Any]) -> None:
        """Do what was asked (:mod:`livingai.protocol.verbs`) and send the answer."""
        try:
            verb = verb_named(name)
            key = execution_hash(arguments[0]) if verb.barrier is Barrier.ONE else None
            self._admit(verb)  # the barrier would have it wait for what is not written now
            if verb.barrier is not Barrier.NONE:
                await self._port.passed(key)
            if verb.by is Answerer.READER:
                async with agent.turn():
                    value = await self._read(verb.name, arguments)
                    agent.send(frame(Message.RESPONSE, number, True, value))
                return
            value = await self._do(verb, key, arguments)
            agent.send(frame(Message.RESPONSE, number, True, value))
        except LivingAIError as error:
            self._heard(error)
            self._refuse(agent, number, error)
        except Exception as error:  # arguments that make no sense, or a mistake of ours
            _log.error("cannot answer the request %r: %r", name, error)
            self._refuse(agent, number, error)

    def _admit(self, verb: Verb[Any]) -> None:
        if verb.name in _WRITES:
            self._port.refuse_in_doubt()

    def _heard(self, error: LivingAIError) -> None:
        if isinstance(error, StoreDamagedError):
            self._port.doubt(error)

    def _refuse(self, agent: Agent, number: int, error: Exception) -> None:
        parts = error_parts(error, agent.revision)
        agent.send(frame(Message.RESPONSE, number, False, parts))

    async def _read(self, verb: str, arguments: list[Any]) -> Any:
        for _ in range(_READ_TRIES - 1):
            try:
                return await self._reader.call(verb, *arguments)
            except ServiceUnavailableError as error:
                _log.warning("asking the reader again: %s", error)
        return await self._reader.call(verb, *arguments)

    async def _do(self, verb: Verb[Any], key: int | None, arguments: list[Any]) -> Any:
        self._admit(verb)
        if verb.by is Answerer.HOUSEKEEPER:
            return await self._housekeeper.call(verb.name, *arguments)
        if verb.by is Answerer.WRITER and key is not None:
            return await self._port.ask_writer(key, verb.name, *arguments)
        do: Callable[..., Awaitable[Any]] = getattr(self, f"do_{verb.name}")
        return await do(*arguments)

    async def do_drain(self) -> None:
        """Answer once the barrier has passed."""

    async def do_ready(self) -> None:
        """Answer once the service is up (:meth:`.dispatcher.Dispatcher.until_ready`)."""
        await self._port.until_ready()

    async def do_status(self) -> dict[str, Any]:
        """The fields of :class:`~livingai.protocol.status.ServiceStatus`."""
        return self._port.status().to_wire()

    async def do_watch(self, number: int, wait_s: float) -> list[Any]:
        """A page of outcomes (:mod:`livingai.protocol.watched`)."""
        return page_to_wire(await self._port.watched(int(number), float(wait_s)))

    def pids(self) -> dict[str, int | None]:
        """Process ids of the reader and the housekeeper; None: it was not needed so far."""
        return {"reader": self._reader.pid, "housekeeper": self._housekeeper.pid}

    async def retain(self, policy: dict[str, Any] | None) -> None:
        """Apply a retention policy now and then, for as long as the service lives."""
        while policy:
            await asyncio.sleep(_RETAIN_EVERY_S)
            try:
                self._admit(PRUNE)
                await self._housekeeper.call(PRUNE.name, dict(policy))
            except LivingAIError as error:
                self._heard(error)
                _log.warning("retention failed, trying again later: %s", error)

    async def close(self) -> None:
        """End the reader and the housekeeper."""
        await asyncio.gather(self._reader.close(), self._housekeeper.close())
