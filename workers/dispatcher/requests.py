"""What agents ask: reads that see what is queued, housekeeping, and how the service is."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import LivingAIError, ServiceError, ServiceUnavailableError
from livingai.protocol.frames import Message, error_parts, frame
from livingai.queue.record import execution_hash
from livingai.workers.dispatcher.agent_connection import Agent
from livingai.workers.dispatcher.ports import RequestPort
from livingai.workers.dispatcher.store_link import StoreLink

_log = logging.getLogger("livingai.service")
#: Reads of one execution wait for its writes, the others for all.
_READS_OF_ONE = ("latest", "nodes", "history")
_READS_OF_ALL = ("load", "executions", "costs")
#: A read that was under way when the reader died (of another one, perhaps) is asked so often.
_READ_TRIES = 3
#: Seconds between two applications of the retention policy.
_RETAIN_EVERY_S = float(os.environ.get("LIVINGAI_RETAIN_EVERY_S", "60"))


class Requests:
    """Answers agents. Each request is a task of its own and ends with its agent's connection."""

    def __init__(self, config: ServiceConfig, port: RequestPort) -> None:
        self._port = port
        self._reader = StoreLink(config, "reader", port.kick)
        #: Retention, deletes and forks: slow work that no read or write should wait for.
        self._housekeeper = StoreLink(config, "housekeeper", port.kick)

    @property
    def trouble(self) -> str:
        """What to tell agents of a reader or housekeeper that keeps dying."""
        return self._reader.trouble or self._housekeeper.trouble

    async def answer(self, agent: Agent, number: int, verb: str, arguments: list[Any]) -> None:
        """Do what was asked and send the answer."""
        try:
            if verb in _READS_OF_ONE:
                await self._port.passed(execution_hash(arguments[0]))
            elif verb in _READS_OF_ALL:
                await self._port.passed(None)
            else:
                value = await self._do(verb, arguments)
                agent.send(frame(Message.RESPONSE, number, True, value))
                return
            async with agent.turn():
                value = await self._read(verb, arguments)
                agent.send(frame(Message.RESPONSE, number, True, value))
        except LivingAIError as error:
            agent.send(frame(Message.RESPONSE, number, False, error_parts(error)))
        except Exception as error:  # arguments that make no sense, or a mistake of ours
            _log.error("cannot answer the request %r: %r", verb, error)
            agent.send(frame(Message.RESPONSE, number, False, error_parts(error)))

    async def _read(self, verb: str, arguments: list[Any]) -> Any:
        for _ in range(_READ_TRIES - 1):
            try:
                return await self._reader.call(verb, *arguments)
            except ServiceUnavailableError as error:
                _log.warning("asking the reader again: %s", error)
        return await self._reader.call(verb, *arguments)

    async def _do(self, verb: str, arguments: list[Any]) -> Any:
        port = self._port
        if verb == "size":
            return await self._reader.call("size")
        if verb in ("delete", "fork"):
            await port.passed(execution_hash(arguments[0]))
            return await self._housekeeper.call(verb, *arguments)
        if verb == "prune":
            return await self.prune(*arguments)
        if verb == "drain":
            return await port.passed(None)
        if verb == "ready":
            return await port.until_ready()
        if verb == "claim":
            key = execution_hash(arguments[0])
            await port.passed(key)
            return await port.ask_writer(key, "claim", *arguments)
        if verb == "status":
            return port.status()
        raise ServiceError(f"the service does not know the request {verb!r}")

    async def prune(self, policy: dict[str, Any], dry_run: bool = False) -> Any:
        """Apply a retention policy once, or find out what it would remove."""
        return await self._housekeeper.call("prune", policy, dry_run)

    def pids(self) -> dict[str, int | None]:
        """Process ids of the reader and the housekeeper; None: it was not needed so far."""
        return {"reader": self._reader.pid, "housekeeper": self._housekeeper.pid}

    async def retain(self, policy: dict[str, Any] | None) -> None:
        """Apply a retention policy now and then, for as long as the service lives."""
        while policy:
            await asyncio.sleep(_RETAIN_EVERY_S)
            try:
                await self.prune(dict(policy))
            except LivingAIError as error:
                _log.warning("retention failed, trying again later: %s", error)

    async def close(self) -> None:
        """End the reader and the housekeeper."""
        await asyncio.gather(self._reader.close(), self._housekeeper.close())
