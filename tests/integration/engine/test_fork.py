"""A fork in the agent: the child is a process like any other, and the parent does not notice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from livingai.engine import registry
from livingai.errors import JournalClosedError
from livingai.promise import Promise
from tests.support import acts, peek
from tests.support.agent_main import AgentSide
from tests.support.patience import patience
from tests.support.place import Place
from tests.support.states import state_of
from tests.support.waiting import frozen, kill, until

#: pytest's own fixtures hold pipes and threads; so all forks are in agents, as in real life.


def in_child(work: Callable[[], None]) -> int:
    """Fork, do ``work`` in the child and leave it as a server's child would; the pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def wait(pid: int, timeout: float = 60.0) -> int:
    """The child's exit status; it is killed if it takes longer."""
    ended: list[int] = []

    def look() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        ended.extend([os.waitstatus_to_exitcode(status)] if found else [])
        return bool(found)

    try:
        until(look, what=f"end of the child {pid}", timeout=timeout)
    finally:
        if not ended:
            kill(pid)
            os.waitpid(pid, 0)
    return ended[0]


def journal_of(agent: AgentSide) -> str:
    """The folder of the journal of this process."""
    handle = agent.engine.open_handle()
    return handle.open_journal().directory


def save_in_child(agent: AgentSide, execution: str, steps: int, settle: bool) -> list[str]:
    """Fork; the child saves with the engine that it inherited. Journals of both."""
    reader, writer = os.pipe()

    def work() -> None:
        receipts = []
        for step in range(steps):
            node = acts.make_node(execution, step)
            receipts.append(agent.engine.save_sync(node, state_of(execution, step)))
        assert agent.engine.latest_sync(execution)[1] == state_of(execution, steps - 1)
        os.write(writer, journal_of(agent).encode())
        if settle:
            for receipt in receipts:
                assert receipt.result(patience(60)).stored
            assert agent.engine.sla().saves == steps, "the parent's saves are counted"
            agent.engine.flush_sync(timeout=patience(60))

    pid = in_child(work)
    os.close(writer)
    assert wait(pid) == 0
    with os.fdopen(reader) as found:
        return [journal_of(agent), found.read()]


@pytest.mark.parametrize("settle", [True, False])
def test_child_saves_too(served: Place, settle: bool) -> None:
    agent = served.agent()
    agent.call(acts.save_many, served.run, 5)
    ours, theirs = agent.call(save_in_child, f"{served.run} child", 10, settle)
    assert ours != theirs, "two writers on one journal"
    agent.call(acts.save, served.run, 5)
    agent.settled(6)
    assert agent.call(journal_of) == ours
    assert agent.call(acts.latest, f"{served.run} child")[1] == state_of(f"{served.run} child", 9)
    assert agent.call(acts.steps, f"{served.run} child") == list(range(10))
    assert peek.stored_steps(served.database, served.run) == list(range(6))
    assert peek.stored_state(served.database, f"{served.run} child") == state_of(
        f"{served.run} child", 9
    )


def test_child_of_an_engine_that_was_never_used(served: Place) -> None:
    agent = served.agent()
    ours, theirs = agent.call(save_in_child, f"{served.run} child", 3, True)
    assert ours != theirs
    agent.call(acts.save, served.run)
    agent.settled(1)
    assert peek.stored_steps(served.database, f"{served.run} child") == [0, 1, 2]


def fork_and_idle(agent: AgentSide) -> int:
    """Fork a child that does nothing but live."""
    return in_child(signal.pause)


def test_parents_journal_is_released_though_the_child_lives(state_dir: Place) -> None:
    """The child inherits descriptors, but no ownership: a dead parent's journal is an orphan."""
    keeper, agent = state_dir.agent(), state_dir.agent()
    keeper.call(acts.save, "keeper")
    agent.call(acts.save_many, "parent", 5)
    child = agent.call(fork_and_idle)
    agent.kill()
    assert keeper.call(acts.latest, "parent")[1] == state_of("parent", 4)
    assert keeper.call(acts.steps, "parent") == list(range(5))
    assert keeper.leave() == 0
    until(lambda: state_dir.journals() == [], what="the parent's journal is gone")
    kill(child)


def test_childs_journal_is_stored_after_its_death(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "parent")
    assert agent.call(save_and_die_in_child) == -signal.SIGKILL
    assert agent.call(acts.latest, "child")[1] == state_of("child", 0)
    assert agent.call(acts.steps, "child") == [0]


def save_and_die_in_child(agent: AgentSide) -> int:
    """The child is killed as soon as its save has returned."""

    def work() -> None:
        agent.engine.save_sync(acts.make_node("child", 0), state_of("child", 0))
        os.kill(os.getpid(), signal.SIGKILL)

    return wait(in_child(work))


def end_in_child(agent: AgentSide, how: str) -> None:
    """Fork; the child ends the engine that it never used. It may wait for longer than we wait for
    it."""
    longer_s = 2 * patience(60)

    def work() -> None:
        if how == "close":
            agent.engine.close_sync(longer_s)
            try:
                agent.engine.save_sync(acts.make_node("child", 0), b"")
            except JournalClosedError:
                return
            raise AssertionError("saved after close")
        if how == "flush":
            agent.engine.flush_sync(timeout=longer_s)
        else:
            assert agent.engine.sla().pending == 0
            assert agent.engine.sla().queue_age_ms == 0.0

    assert wait(in_child(work), timeout=15) == 0


@pytest.mark.parametrize("how", ["close", "flush", "sla"])
def test_child_does_not_wait_for_the_parents_writes(served: Place, how: str) -> None:
    agent = served.agent()
    agent.call(acts.save, served.run, 0)
    agent.settled(1)
    with frozen(served.service_processes()):
        agent.call(acts.save_many, served.run, 3)
        agent.call(end_in_child, how)  # nothing is stored before this has returned
        assert agent.call(acts.latest, served.run)[1] == state_of(served.run, 2)
    agent.call(acts.save, served.run, 3)
    agent.settled(5)


def fork_while_busy(agent: AgentSide, children: int) -> list[int]:
    """Fork again and again while other threads save and outcomes arrive: whatever lock some thread
    holds at that moment, the child must not need it."""
    sys.setswitchinterval(1e-6)  # so that threads are interrupted while they hold locks
    acts.start(agent, ["busy"], size=200, interval_s=0.001)
    acts.saved(agent, 20)
    codes = []
    for number in range(children):

        def work(execution: str = f"child-{number}") -> None:
            receipt = agent.engine.save_sync(acts.make_node(execution, 0), state_of(execution, 0))
            assert receipt.result(patience(30)).stored

        codes.append(wait(in_child(work)))
    acts.halt(agent)
    return codes


def test_fork_while_busy(served: Place, tries: int) -> None:
    agent = served.agent()
    children = max(5, tries // 2)
    assert agent.call(fork_while_busy, children) == [0] * children
    agent.settled()
    for number in range(children):
        execution = f"child-{number}"
        assert peek.stored_state(served.database, execution) == state_of(execution, 0)


def fork_with_locks_held(agent: AgentSide) -> int:
    """Fork while each lock of livingai is held, as another thread might; the child's status."""
    handle = agent.engine.open_handle()

    def work() -> None:
        receipt = agent.engine.save_sync(acts.make_node("child", 0), state_of("child", 0))
        assert receipt.result(patience(30)).stored
        assert agent.engine.sla().saves == 1
        agent.engine.close_sync()

    with ExitStack() as stack:
        for lock in (
            Promise._lock, registry._lock, handle.lock, handle.cache._lock,
            handle.connection._sending, agent.engine._opening, agent.engine._sla._lock,
        ):  # fmt: skip
            stack.enter_context(lock)
        pid = in_child(work)
    return wait(pid)


def test_fork_while_locks_are_held(state_dir: Place) -> None:
    agent = state_dir.agent()
    agent.call(acts.save, "parent", 0)
    assert agent.call(fork_with_locks_held) == 0
    agent.call(acts.save, "parent", 1)
    agent.settled(2)
    assert peek.stored_state(state_dir.database, "child") == state_of("child", 0)


# -- multiprocessing --

_pool_agent: AgentSide | None = None


def pool_save(execution: str) -> tuple[int, str]:
    """In a process of the pool, with the engine that it inherited."""
    assert _pool_agent is not None
    receipt = _pool_agent.engine.save_sync(acts.make_node(execution, 0), state_of(execution, 0))
    return os.getpid(), str(receipt.result(patience(30)).status)


def with_pool(agent: AgentSide, executions: list[str]) -> list[Any]:
    """Save each execution in a pool of forked processes."""
    global _pool_agent  # noqa: PLW0603 - what a forked pool's processes inherit
    _pool_agent = agent
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(pool_save, executions, chunksize=1)
        pool.close()
        pool.join()
    return found


def test_multiprocessing_pool(served: Place) -> None:
    agent = served.agent()
    agent.call(acts.save, served.run)
    executions = [f"{served.run} {number}" for number in range(10)]
    found = agent.call(with_pool, executions)
    assert agent.pid not in {pid for pid, _ in found}
    assert {status for _, status in found} <= {"met", "late"}
    agent.call(acts.save, served.run, 1)
    agent.settled(2)
    for execution in executions:
        assert agent.call(acts.latest, execution)[1] == state_of(execution, 0)
        assert peek.stored_state(served.database, execution) == state_of(execution, 0)
