"""What agents do with shared logs; each function runs in an agent process (see ``agent_main``)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from livingai import CheckpointEngine, Durability, ExecutionNode, NodeRange, Receipt, Status
from livingai.adapters.shared_log import SharedLog
from livingai.errors import JournalFullError
from livingai.outcome import Outcome
from tests.support import waiting
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.states import state_of

LOG = "log:one"


def entry(name: str, log: str = LOG) -> ExecutionNode:
    """An entry whose id ends in a name."""
    return ExecutionNode(log, id=f"{log}/{name}", status=Status.SUCCESS)


def append(agent: AgentSide, *names: str, log: str = LOG, level: str = "", said: str = "") -> None:
    """Append entries, one after the other; each is written to the file ``said`` as it is
    accepted."""
    durability = Durability[level] if level else None
    with open(said or os.devnull, "a", encoding="utf-8") as told:
        for name in names:
            receipt = SharedLog(agent.engine).append_sync(
                entry(name, log), {"name": name}, durability=durability
            )
            assert durability is not Durability.STORE or receipt.result().stored
            print(name, file=told, flush=True)


def append_many(agent: AgentSide, prefix: str, count: int, **options: Any) -> None:
    """Append ``count`` entries in a row."""
    append(agent, *(f"{prefix}-{number:04}" for number in range(count)), **options)


def append_in_tasks(agent: AgentSide, prefix: str, count: int) -> None:
    """Append that many entries from tasks of one event loop, and read them in the midst of it."""
    log = SharedLog(agent.engine)

    async def one(number: int) -> None:
        await log.append(entry(f"{prefix}-{number:04}"), {"name": f"{prefix}-{number:04}"})
        page = await log.nodes_between(LOG, NodeRange(limit=1000))
        assert f"{LOG}/{prefix}-{number:04}" in {found.node.id for found in page}

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(count)))
        await log.flush(patience(60))

    asyncio.run(all_of_them())


def append_in_threads(agent: AgentSide, prefix: str, count: int) -> None:
    """The same from four threads."""
    threads = [
        threading.Thread(target=append_many, args=(agent, f"{prefix}{number}", count))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    waiting.joined(*threads, timeout=60)


def append_behind(agent: AgentSide, name: str, ready: str, go: str, *, die: bool) -> None:
    """Append an entry; between the look at the claim and the save, make the file ``ready`` and wait
    for the file ``go``: others append meanwhile. Then die, by SIGKILL."""
    engine, save = agent.engine, agent.engine.save_sync

    def late(*arguments: Any, **options: Any) -> Receipt:
        if not Path(ready).exists():
            Path(ready).touch()
            waiting.until(Path(go).exists, what="the file that lets it go on", timeout=60)
        return save(*arguments, **options)

    engine.save_sync = late  # type: ignore[method-assign]
    append(agent, name)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    engine.save_sync = save  # type: ignore[method-assign]


def read(agent: AgentSide, log: str = LOG) -> list[str]:
    """Names of the entries of a log, in order of id."""
    page = SharedLog(agent.engine).nodes_between_sync(log, NodeRange(limit=10_000))
    [again] = SharedLog(agent.engine).node_pages_sync(log, [NodeRange(limit=10_000)])
    assert len(again) >= len(page)
    for found in page:
        assert found.node.id == f"{log}/{found.state['name']}"
    return [found.state["name"] for found in page]


def read_soon(agent: AgentSide, log: str = LOG) -> list[str]:
    """As :func:`read`, without waiting for what this agent has appended itself; in small pages."""
    names: list[str] = []
    asked: NodeRange | None = NodeRange(limit=3)
    while asked is not None:
        [page] = SharedLog(agent.engine).pages_sync(log, [asked])
        names += [found.state["name"] for found in page]
        asked = page.rest
    return names


def read_soon_saying(agent: AgentSide, asked: str) -> list[str]:
    """As :func:`read_soon`; makes the file ``asked`` when its first question is on its way."""
    saying = partial(_saying, asked, agent.engine.stored_pages_sync)
    agent.engine.stored_pages_sync = saying  # type: ignore[method-assign]
    return read_soon(agent)


def read_beside(agent: AgentSide, asked: str, *, through_log: bool) -> list[str]:
    """What this process reads soon after another engine of it has appended an entry, or after one
    was saved without a log. Makes the file ``asked`` when its first question is on its way."""
    for method in ("stored_pages_sync", "node_pages_sync"):
        setattr(agent.engine, method, partial(_saying, asked, getattr(agent.engine, method)))
    if not through_log:
        agent.engine.save_sync(entry("b"), {"name": "b"})
        return read_soon(agent)
    with CheckpointEngine(agent.engine.store, agent.engine.config) as other:
        SharedLog(other).append_sync(entry("b"), {"name": "b"})
        return read_soon(agent)


def _saying(asked: str, ask: Callable[..., Any], *arguments: Any) -> Any:
    Path(asked).touch()
    return ask(*arguments)


def append_and_read(agent: AgentSide, prefix: str, count: int, said: str) -> int:
    """Append entries, and write each to the file ``said`` once it is accepted; between them, look
    for all that anybody has written there. How many reads did not wait."""
    log, path = SharedLog(agent.engine), Path(said)
    quick, seed = 0, random.Random(prefix)
    ask = agent.engine.stored_pages_sync

    def counted(*arguments: Any) -> Any:
        nonlocal quick
        quick += 1
        return ask(*arguments)

    agent.engine.stored_pages_sync = counted  # type: ignore[method-assign,assignment]
    for number in range(count):
        name = f"{prefix}-{number:04}"
        log.append_sync(entry(name), {"name": name})
        with path.open("a", encoding="utf-8") as told:
            print(name, file=told, flush=True)
        for _ in range(seed.randrange(3)):
            accepted = path.read_text(encoding="utf-8").split()
            [page] = log.pages_sync(LOG, [NodeRange(limit=10_000)])
            missing = set(accepted) - {found.state["name"] for found in page}
            assert not missing, f"{agent} does not see {sorted(missing)}"
    return quick


def in_order(agent: AgentSide, log: str = LOG) -> list[str]:
    """Names of the entries, in the order in which the store first got each."""
    page = SharedLog(agent.engine).nodes_between_sync(log, NodeRange(limit=10_000))
    return [found.state["name"] for found in sorted(page, key=lambda found: found.first)]


def flush(agent: AgentSide) -> None:
    """Wait until the store has what this agent has appended."""
    SharedLog(agent.engine).flush_sync(patience(60))


def close(agent: AgentSide) -> None:
    """Close the engine, as a program does at its end."""
    agent.engine.close_sync(patience(60))


def count_outcomes(agent: AgentSide) -> None:
    """From now on."""
    agent.runner = Counter[str]()

    def told(receipt: Receipt, outcome: Outcome) -> None:
        agent.runner[outcome.status] += 1

    agent.engine.observe(told)


def outcomes(agent: AgentSide, status: str) -> int:
    """How many outcomes of a status there were since then."""
    return int(agent.runner[status])


def fill(agent: AgentSide, prefix: str, most: int = 5000) -> int:
    """Append until the journal is full; how many entries were accepted."""
    for number in range(most):
        node = entry(f"{prefix}-{number:04}")
        state = {"name": f"{prefix}-{number:04}", "text": state_of(LOG, number, 2000)}
        try:
            SharedLog(agent.engine).append_sync(node, state)
        except JournalFullError:
            return number
    raise AssertionError(f"{most} entries fitted into the journal")


def wait_for_fences(agent: AgentSide) -> None:
    """Until something has to be saved again."""
    waiting.until(lambda: agent.runner["fenced"], what="an entry that is put out")


def delay_saver(agent: AgentSide, seconds: float) -> None:
    """The first entry that is saved again takes that long: whoever does not wait for it is seen."""
    save, delays = agent.engine.save_sync, [seconds]

    def slow(*arguments: Any, **options: Any) -> Receipt:
        if threading.current_thread().name == "livingai-entries" and delays:
            time.sleep(delays.pop())
        return save(*arguments, **options)

    agent.engine.save_sync = slow  # type: ignore[method-assign]


def delete(agent: AgentSide) -> None:
    """Delete the log."""
    agent.engine.delete_sync(LOG)


def append_in_child(agent: AgentSide, name: str) -> None:
    """Fork; the child appends with the engine that it inherited, reads that, and closes it."""
    parent = SharedLog(agent.engine)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            assert SharedLog(agent.engine) is parent
            append(agent, name)
            assert name in read(agent)
            flush(agent)
            close(agent)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
