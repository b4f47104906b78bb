"""What agents ask: reads that see what is queued, housekeeping, and how the service is."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

from livingai._version import __version__
from livingai.errors import LivingAIError, ServiceError, ServiceUnavailableError
from livingai.protocol.frames import Message, error_parts, frame
from livingai.queue.record import execution_hash
from livingai.workers.dispatcher.agent_connection import Agent
from livingai.workers.dispatcher.store_link import StoreLink

if TYPE_CHECKING:
    from livingai.workers.dispatcher.dispatcher import Dispatcher

_log = logging.getLogger("livingai.service")
#: Reads of one execution wait for its writes, the others for all.
_READS_OF_ONE = ("latest", "nodes", "history")
_READS_OF_ALL = ("load", "executions", "costs")
#: A read that was under way when the reader died (of another one, perhaps) is asked so often.
_READ_TRIES = 3


class Requests:
    """Answers agents. Each request is a task of its own and ends with its agent's connection."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._reader = StoreLink(dispatcher.config, "reader", dispatcher.kick)
        #: Retention, deletes and forks: slow work that no read or write should wait for.
        self._housekeeper = StoreLink(dispatcher.config, "housekeeper", dispatcher.kick)

    @property
    def trouble(self) -> str:
        """What to tell agents of a reader or housekeeper that keeps dying."""
        return self._reader.trouble or self._housekeeper.trouble

    async def answer(self, agent: Agent, number: int, verb: str, arguments: list[Any]) -> None:
        """Do what was asked and send the answer."""
        try:
            if verb in _READS_OF_ONE:
                await self._dispatcher.barriers.passed(execution_hash(arguments[0]))
            elif verb in _READS_OF_ALL:
                await self._dispatcher.barriers.passed(None)
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
        dispatcher = self._dispatcher
        if verb == "size":
            return await self._reader.call("size")
        if verb in ("delete", "fork"):
            await dispatcher.barriers.passed(execution_hash(arguments[0]))
            return await self._housekeeper.call(verb, *arguments)
        if verb == "prune":
            return await self.prune(*arguments)
        if verb == "drain":
            return await dispatcher.barriers.passed(None)
        if verb == "ready":
            return await dispatcher.keeper.until_ready()
        if verb == "claim":
            key = execution_hash(arguments[0])
            await dispatcher.barriers.passed(key)
            return await dispatcher.writer_of(key).ask("claim", *arguments)
        if verb == "status":
            return self.status()
        raise ServiceError(f"the service does not know the request {verb!r}")

    async def prune(self, policy: dict[str, Any], dry_run: bool = False) -> Any:
        """Apply a retention policy once, or find out what it would remove."""
        return await self._housekeeper.call("prune", policy, dry_run)

    def status(self) -> dict[str, Any]:
        """What the service is doing, as plain values."""
        dispatcher = self._dispatcher
        feeds = dispatcher.intake.feeds.values()
        return {
            "store": dispatcher.store_url,
            "version": __version__,
            "served": dispatcher.config.served,
            "foreground": dispatcher.config.foreground,
            "compression": dispatcher.pool.where,
            "started_at": dispatcher.started_at,
            "pids": {
                "supervisor": os.getppid(),
                "dispatcher": os.getpid(),
                "writers": [writer.pid for writer in dispatcher.writers],
                "reader": self._reader.pid,
                "housekeeper": self._housekeeper.pid,
                "compressors": dispatcher.pool.pids(),
            },
            "agents": sum(agent.journal is not None for agent in dispatcher.server.agents),
            "journals": len(feeds),
            "journals_of_dead_owners": sum(not feed.alive for feed in feeds),
            "inflight": dispatcher.inflight,
            "inflight_bytes": dispatcher.inflight_bytes,
            "batches": sum(writer.writing for writer in dispatcher.writers),
            "outcomes": {str(s): count for s, count in dispatcher.outcomes.counts.items()},
            "trouble": dispatcher.trouble,
        }

    async def close(self) -> None:
        """End the reader and the housekeeper."""
        await asyncio.gather(self._reader.close(), self._housekeeper.close())
