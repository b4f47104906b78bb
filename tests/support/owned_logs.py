"""What other processes do with a log of :mod:`livingai.adapters.owned_log`."""

from __future__ import annotations

import asyncio
import os

from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.shared_log import SharedLog
from livingai.node import ExecutionNode
from livingai.stores.ranges import NodeRange
from tests.support.agent_main import AgentSide


def take_over(agent: AgentSide, execution_id: str) -> None:
    """Become the owner."""
    asyncio.run(OwnedLog(SharedLog(agent.engine)).take_over(execution_id))


def take_over_and_append(agent: AgentSide, execution_id: str, name: str) -> bool:
    """Become the owner and append an entry; whether it was the owner all the time."""

    async def work() -> bool:
        log = OwnedLog(SharedLog(agent.engine))
        claim = await log.take_over(execution_id)
        return await log.append_under(claim, ExecutionNode(execution_id, id=name), {"by": name})

    return asyncio.run(work())


def win(agent: AgentSide, folder: str, count: int) -> list[int]:
    """Be the first to append to executions 0, 1, ... ``count`` - 1, in competition with two others
    that begin each at the same moment; those in which this process was told that it is."""

    async def work() -> list[int]:
        log = SharedLog(agent.engine)
        owned = OwnedLog(log)
        won = []
        for number in range(count):
            await asyncio.to_thread(meet, folder, number)
            if await first(log, owned, f"e{number}"):
                won.append(number)
        return won

    return asyncio.run(work())


async def first(log: SharedLog, owned: OwnedLog, execution_id: str) -> bool:
    """Append, if nothing is there."""
    node = ExecutionNode(execution_id, id=f"{execution_id}/{os.getpid()}")
    while True:
        claim = await owned.take_over(execution_id)
        page = await log.nodes_between(execution_id, NodeRange())
        if page.nodes:
            return [each.node.id for each in page] == [node.id]
        if await owned.append_under(claim, node, {}):
            return True


def meet(folder: str, number: int) -> None:
    """Wait until three processes are here."""
    os.close(os.open(f"{folder}/{number}-{os.getpid()}", os.O_CREAT))
    while len([name for name in os.listdir(folder) if name.startswith(f"{number}-")]) < 3:
        os.sched_yield()
