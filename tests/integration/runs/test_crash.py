"""Programs killed with SIGKILL around each of their calls, and resumed by another process."""

from __future__ import annotations

from contextlib import suppress

import pytest

from livingai import ExecutionNode, RecoveryEngine, Resolution, step
from livingai.errors import FencedError, InDoubtError
from livingai.runs.effects import Wait
from tests.support import acts, peek, programs
from tests.support.agents import Agent, AgentDied
from tests.support.place import Place
from tests.support.waiting import kill

RUN = "run-1"
PERFORM = {"sync": programs.perform, "async": programs.perform_async}


def tools(effects: dict[str, int]) -> dict[str, int]:
    return {what: count for what, count in effects.items() if what.startswith("tool")}


ONCE = {f"tool {number}": 1 for number in range(programs.TOOLS)}


@pytest.mark.parametrize("kind", PERFORM)
def test_killed_at_every_moment(state_dir: Place, kind: str) -> None:
    """Each moment of one program, resumed by the process that is killed at the next one's run."""
    perform = PERFORM[kind]
    moments = [m for m in programs.MOMENTS if kind == "sync" or m.startswith("tool")]
    agent = state_dir.agent()
    for number, moment in enumerate(moments):
        run_id, file = f"run-{number}", str(state_dir.folder / f"world-{number}")
        agent.send(perform, run_id, file, moment)
        successor = state_dir.agent()
        assert agent.died(30) == -9
        agent = successor
        if "tool before" in moment or "tool after" in moment:
            with pytest.raises(InDoubtError, match="charge"):  # never silently again
                agent.call(perform, run_id, file)
            assert tools(programs.effects(file)).get(f"tool {moment[-1]}", 0) == (
                1 if "after" in moment else 0
            )
        assert agent.call(perform, run_id, file, resolve=True) == programs.FINAL, moment
        assert tools(programs.effects(file)) == ONCE, moment
        before = programs.effects(file)
        assert agent.call(perform, run_id, file) == programs.FINAL
        assert programs.effects(file) == before, "a finished run did something again"
    agent.call(acts.flush)
    for number, _ in enumerate(moments):
        assert peek.stored_state(state_dir.database, f"run-{number}") == programs.FINAL


def test_killed_at_every_moment_of_one_run(state_dir: Place) -> None:
    """One run that never gets further than to the next moment, each life in a new process."""
    file = str(state_dir.folder / "world")
    waiting = state_dir.agent()
    for moment in programs.MOMENTS:
        agent, waiting = waiting, state_dir.agent()
        agent.send(programs.perform, RUN, file, moment, resolve=True)
        assert agent.died(30) == -9, moment
    assert waiting.call(programs.perform, RUN, file, resolve=True) == programs.FINAL
    found = programs.effects(file)
    assert tools(found) == ONCE
    assert all(found[f"step {number}"] == 2 for number in range(programs.TOOLS))


def test_everything_killed_inside_of_a_tool(state_dir: Place) -> None:
    """The service dies with the agent: the intent is in the journal, and counts."""
    file = str(state_dir.folder / "world")
    agent = state_dir.agent()
    state_dir.service_killed = True
    agent.call(acts.save, "warm up")
    doomed = list(state_dir.pids()) and state_dir.service_processes()
    agent.send(programs.perform, RUN, file, "tool after effect 1")
    agent.died(30)
    kill(*doomed)
    successor = state_dir.agent()
    with pytest.raises(InDoubtError):
        successor.call(programs.perform, RUN, file)
    assert successor.call(programs.perform, RUN, file, resolve=True) == programs.FINAL
    assert tools(programs.effects(file)) == ONCE


def test_plan_of_a_killed_run(state_dir: Place) -> None:
    file = str(state_dir.folder / "world")
    agent = state_dir.agent()
    agent.send(programs.perform, RUN, file, "tool after effect 1")
    agent.died(30)
    with state_dir.engine() as engine:
        plan = RecoveryEngine(engine).plan_sync(RUN)
    assert plan.state == {"tickets": ["ticket 0"]}
    assert [node.metadata["name"] for node in plan.in_doubt_nodes] == ["charge"]
    assert [node.output for node in plan.replay_nodes] == ["thought 1"]
    assert plan.skipped_nodes == ()


@pytest.mark.parametrize("displaced", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_zombie_calls_no_tool(state_dir: Place, exclusive: bool, displaced: bool) -> None:
    """Stopped in the middle, taken over, woken up: it makes no call that the successor makes.
    ``displaced``: there was no entry of it in the index for the successor to mark."""
    file = str(state_dir.folder / "world")
    zombie, successor = state_dir.agent(), state_dir.agent()
    zombie.call(programs.begin, RUN, file, exclusive)
    for turn in range(5):
        zombie.call(programs.reached, 3 + 3 * turn)
        if displaced:
            zombie.call(acts.displace, RUN)
        zombie.stop()
        successor.call(programs.begin, RUN, file, exclusive)
        successor.call(programs.reached, 6 + 3 * turn)
        zombie.resume()
        assert zombie.call(programs.finish, False) == "FencedError"
        zombie, successor = successor, zombie
    # What others have recorded is served first; a program that ends before that diverges.
    zombie.call(programs.reached, len(programs.effects(file)) + 1)
    assert zombie.call(programs.finish) == ""
    assert set(programs.effects(file).values()) == {1}


def test_taken_over_in_the_pause_before_another_attempt(
    state_dir: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    successor, calls = state_dir.agent(), []

    @step(retries=2, backoff_s=0.01)
    def fail() -> None:
        calls.append("call")
        raise ValueError("again")

    def pause(wait: Wait, engine: object) -> None:
        assert successor.call(acts.look_in, RUN) == []

    monkeypatch.setattr(Wait, "perform_sync", pause)
    with state_dir.engine() as engine, pytest.raises(FencedError), engine.run_sync(RUN):
        fail()
    assert calls == ["call"]


def test_taken_over_while_the_resolver_was_asked(state_dir: Place) -> None:
    """Its answer comes too late: the successor may have made the call."""
    file = str(state_dir.folder / "world")
    first, successor = state_dir.agent(), state_dir.agent()
    first.send(programs.perform, RUN, file, "tool after effect 0")
    assert first.died(30) == -9
    asked = []

    def resolver(node: ExecutionNode) -> Resolution:
        asked.append(node.metadata["name"])
        successor.call(programs.perform, RUN, file, resolve=True)
        return Resolution.done("too late")

    with (
        state_dir.engine() as engine,
        suppress(FencedError),
        engine.run_sync(RUN, resolver=resolver) as run,
    ):
        run.step("think", str, 0)
        with pytest.raises(FencedError):  # and not only at the end of the run
            run.tool("charge", str, 0)
        asked.append("fenced")
    assert asked == ["charge", "fenced"]
    with state_dir.engine() as engine:
        [ticket] = [node for node in engine.nodes_sync(RUN) if node.output == "ticket 0"]
        assert ticket.metadata["name"] == "charge"
    assert tools(programs.effects(file)) == ONCE


@pytest.mark.parametrize("answer", ["done", "retry"])
def test_taken_over_while_a_recovery_asked_its_resolver(state_dir: Place, answer: str) -> None:
    file = str(state_dir.folder / "world")
    first, successor = state_dir.agent(), state_dir.agent()
    first.send(programs.perform, RUN, file, "tool after effect 0")
    assert first.died(30) == -9

    def resolver(node: ExecutionNode) -> Resolution:
        successor.call(programs.perform, RUN, file, resolve=True)
        return Resolution.retry() if answer == "retry" else Resolution.done("too late")

    with state_dir.engine() as engine:
        with pytest.raises(FencedError):
            RecoveryEngine(engine).recover_sync(RUN, resolver=resolver)
        assert "too late" not in [node.output for node in engine.nodes_sync(RUN)]
    assert tools(programs.effects(file)) == ONCE


def test_killed_while_it_entered(state_dir: Place) -> None:
    """A process dies between writing its first record and publishing it, as another one enters: the
    service finds that record later, and does not take it for the newer owner's. The other one goes
    on, and nothing that it has called is called again by its successor."""
    file = str(state_dir.folder / "world")
    late, owner, successor = state_dir.agent(), state_dir.agent(), state_dir.agent()
    successor.call(acts.save, "warm up")
    late.call(programs.pause_entering, RUN, file)
    owner.call(programs.begin, RUN, file)
    owner.call(programs.reached, 3)
    late.kill()
    owner.call(programs.reached, len(programs.effects(file)) + 20)
    with state_dir.engine() as engine:
        engine.drain_sync()  # the dead one's record, too
    owner.call(programs.reached, len(programs.effects(file)) + 3)
    assert owner.call(programs.finish) == ""
    done = programs.effects(file)
    successor.call(programs.begin, RUN, file)
    successor.call(programs.reached, len(done) + 3)
    assert successor.call(programs.finish) == ""
    assert set(programs.effects(file).values()) == {1}


def test_forked_child_is_not_its_parent(state_dir: Place) -> None:
    """It would make the same calls once more: it shares the run, and knows no ownership."""
    file = str(state_dir.folder / "world")
    told = state_dir.agent().call(programs.fork_in_run, RUN, file)
    assert told == ["RunError", "running", "success", "success"]
    assert programs.effects(file) == {"tool": 1}


def test_many_want_to_resume(state_dir: Place) -> None:
    """Whichever wins, however often they try: no tool is called twice, one of them gets through."""
    file = str(state_dir.folder / "world")
    agents = [state_dir.agent() for _ in range(4)]
    first = state_dir.agent()
    first.send(programs.perform, RUN, file, "behind tool 0")
    first.died(30)
    done = 0
    for _ in range(20):
        for agent in agents:
            agent.send(programs.perform, RUN, file)
        for agent in agents:
            done += _outcome(agent)
        if done:
            break
    found = tools(programs.effects(file))
    assert set(found.values()) == {1}
    if not done:  # one was fenced inside of its tool: that is in doubt, and was not called again
        assert agents[0].call(programs.perform, RUN, file, resolve=True) == programs.FINAL
    assert tools(programs.effects(file)) == ONCE


def _outcome(agent: Agent) -> int:
    try:
        assert agent.receive() == programs.FINAL
    except (FencedError, InDoubtError):
        return 0
    except AgentDied as error:
        raise AssertionError from error
    return 1
