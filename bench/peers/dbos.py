"""DBOS: a workflow per agent, and a step per save whose result is the state; DBOS records what a
step returns. The agents hand their states to their workflows through queues."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import time
from collections.abc import Awaitable
from typing import Any

from bench.peers.base import Done, Peer, Place
from livingai import ExecutionNode, Outcome

_Work = asyncio.Queue[tuple[bytes, asyncio.Future[None]] | None]


class Steps(Peer):
    """``save`` returns when the step's result is recorded."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        sys.path.insert(0, place.packages)
        self._dbos: Any = importlib.import_module("dbos").DBOS
        self._work: dict[str, _Work] = {}
        self._handles: list[Any] = []
        self._agent: Any = None

    async def open(self) -> None:
        """Launch it, which makes its tables."""
        dbos, work = self._dbos, self._work
        url = self.place.url or f"sqlite:///{self.place.path}"
        dbos(
            config={
                "name": "bench", "system_database_url": url, "run_admin_server": False,
                # Else each process takes the workflows of the others for its own.
                "executor_id": f"process-{os.getpid()}", "log_level": "ERROR",
            }
        )  # fmt: skip

        async def keep(state: bytes) -> bytes:
            return state

        step = dbos.step(name="keep")(keep)

        async def agent(execution_id: str) -> None:
            while (given := await work[execution_id].get()) is not None:
                state, kept = given
                try:
                    await step(state)
                except Exception as error:
                    kept.set_exception(error)
                else:
                    kept.set_result(None)

        self._agent = dbos.workflow(name="agent")(agent)
        dbos.launch()

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Have a step of the agent's workflow return the state."""
        began_ns, name = time.perf_counter_ns(), node.execution_id
        if name not in self._work:
            self._work[name] = asyncio.Queue()
            self._handles.append(await self._dbos.start_workflow_async(self._agent, name))
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._work[name].put_nowait((state, kept))
        await kept
        return Done(self._outcome(began_ns))

    async def close(self) -> None:
        """End the workflows and DBOS."""
        for work in self._work.values():
            work.put_nowait(None)
        for handle in self._handles:
            await handle.get_result()
        self._dbos.destroy()
