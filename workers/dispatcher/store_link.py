"""A link to a worker process: started, spoken to, and started again when it dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from livingai.config import ServiceConfig
from livingai.errors import ServiceUnavailableError
from livingai.workers.deaths import Deaths
from livingai.workers.dispatcher.spawning import Spawned, spawn_worker
from livingai.workers.dispatcher.store_process import StoreProcess


class Backoff:
    """Exponential delays with full jitter, in seconds; :meth:`reset` after a success."""

    def __init__(self, first_s: float = 0.01, last_s: float = 2.0) -> None:
        self._first_s, self._last_s = first_s, last_s
        self._delay_s = 0.0

    def next_s(self) -> float:
        """The next delay; the first one is zero."""
        delay_s = self._delay_s
        self._delay_s = min(self._last_s, max(self._first_s, delay_s * 2))
        return random.uniform(delay_s / 2, delay_s)

    def reset(self) -> None:
        """Start again from zero."""
        self._delay_s = 0.0


class StoreLink:
    """A worker process with a request and reply connection, in the dispatcher's event loop.

    ``died()`` is called when the process is gone; requests under way then raise
    ServiceUnavailableError, and the next request starts it again.
    """

    def __init__(self, config: ServiceConfig, role: str, died: Callable[[], None]) -> None:
        self._config = config
        self._role = role
        self._died = died
        self._worker: StoreProcess | None = None
        self._starting = asyncio.Lock()
        self._backoff = Backoff()
        self._deaths = Deaths(role)
        self._closed = False

    @property
    def trouble(self) -> str:
        """A message for the agents if the worker dies again and again; "" while it does not."""
        return self._deaths.trouble

    @property
    def pid(self) -> int | None:
        """Process id of the worker that runs now."""
        return self._worker.pid if self._worker is not None else None

    async def worker(self) -> StoreProcess:
        """The process, up and fit for requests; started if there is none, after a delay if it died
        lately. Only once its predecessor is gone for sure: two must not write at once.

        Raises:
            ServiceUnavailableError: it cannot be started now, or the service is stopping. That is
                not the fault of any request.
        """
        async with self._starting:
            if self._worker is None or self._worker.ended:
                if self._worker is not None:
                    await self._worker.gone()
                await asyncio.sleep(self._backoff.next_s())
                if self._closed:
                    raise ServiceUnavailableError("the service is stopping")
                self._worker = self._start()
            await self._worker.up()
            return self._worker

    def adopt(self, spawned: Spawned) -> None:
        """Take on a worker that was started before there was a link."""
        self._worker = self._greet(spawned)

    def _start(self) -> StoreProcess:
        try:
            return self._greet(spawn_worker(self._role))
        except OSError as error:
            raise ServiceUnavailableError(f"the {self._role} cannot be started: {error}") from error

    def _greet(self, spawned: Spawned) -> StoreProcess:
        return StoreProcess(
            self._role, spawned.process, spawned.sock, self._config, self._answered, self._ended
        )

    def _answered(self) -> None:
        self._backoff.reset()
        self._deaths.works()

    def _ended(self, reason: str) -> None:
        if not self._closed:
            self._deaths.died(reason)
            self._died()

    async def call(self, verb: str, *arguments: Any) -> Any:
        """Ask the worker.

        Raises:
            ServiceUnavailableError: it died before it answered, or cannot be started.
            LivingAIError: the error that it answered with.
        """
        return await (await self.worker()).ask(verb, *arguments)

    async def close(self) -> None:
        """End the process: it finishes what it does, then sees the end of the connection."""
        self._closed = True
        if self._worker is not None:
            await self._worker.close()
