"""SIGTERM ends a graph behind the superstep that it is in."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langgraph.errors import GraphDrained
from langgraph.graph import START, StateGraph
from langgraph.runtime import RunControl

from livingai.adapters.langgraph import LivingAISaver, drain_on_sigterm
from livingai.errors import ConfigurationError
from tests.frameworks.langgraph import drained
from tests.frameworks.langgraph.graphs import STEPS, Steps, config_of
from tests.support.framework_places import other_process
from tests.support.place import Place
from tests.support.waiting import until


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_drained_graph_goes_on_in_another_process(
    place: Place, tmp_path: Path, asynchronous: bool
) -> None:
    note = tmp_path / "note"
    agent = other_process(place)
    agent.send(drained.run, str(note), asynchronous=asynchronous)
    until(lambda: note.exists() and "two" in note.read_text(), what="the second step")
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.process.wait(60) == 128 + signal.SIGTERM
    assert note.read_text().split() == ["one", "two", "drained"]
    state = other_process(place).call(drained.go_on, str(note))
    assert state == {"done": list(STEPS)}
    assert note.read_text().split() == ["one", "two", "drained", "three", "four"]


def test_a_second_sigterm_kills(file_place: Place, tmp_path: Path) -> None:
    note = tmp_path / "note"
    agent = other_process(file_place)
    agent.send(drained.run, str(note), asynchronous=False, stays=True)
    until(lambda: note.exists() and "two" in note.read_text(), what="the second step")
    os.kill(agent.pid, signal.SIGTERM)
    until(lambda: "drained" in note.read_text(), what="the first signal")
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.process.wait(60) == -signal.SIGTERM
    state = other_process(file_place).call(drained.go_on, str(note))
    assert state == {"done": list(STEPS)}


def raising_graph(saver: Any, signals: int = 1) -> Any:
    """A graph of two nodes, of which the first sends this process the signal."""

    def first(state: Steps) -> dict[str, list[str]]:
        for _ in range(signals):
            signal.raise_signal(signal.SIGTERM)
        return {"done": ["first"]}

    builder = StateGraph(Steps)
    builder.add_node("first", first)
    builder.add_node("second", lambda state: {"done": ["second"]})
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    return builder.compile(checkpointer=saver)


def test_the_program_decides_if_it_says_so(file_place: Place) -> None:
    earlier = signal.getsignal(signal.SIGTERM)
    with file_place.engine() as engine:
        graph = raising_graph(LivingAISaver(engine))
        block = drain_on_sigterm(exit_code=None, reason="a new release")
        with pytest.raises(GraphDrained, match="a new release"), block as control:
            graph.invoke({"done": []}, config_of("t"), control=control)
        assert signal.getsignal(signal.SIGTERM) is earlier
        # What is invoked later ends before its first step.
        with pytest.raises(GraphDrained):
            graph.invoke({"done": []}, config_of("u"), control=control)
        assert graph.get_state(config_of("u")).values == {"done": []}
        with drain_on_sigterm(exit_code=None):  # the graph is not told of it
            assert graph.invoke(None, config_of("u")) == {"done": ["first", "second"]}
        assert graph.get_state(config_of("t")).next == ("second",)
        assert graph.invoke(None, config_of("t")) == {"done": ["first", "second"]}


def test_the_process_exits_with_what_was_asked_for(file_place: Place) -> None:
    with file_place.engine() as engine:
        graph = raising_graph(LivingAISaver(engine))
        with pytest.raises(SystemExit) as exit, drain_on_sigterm(exit_code=7) as control:
            graph.invoke({"done": []}, config_of("t"), control=control)
        assert exit.value.code == 7
    with pytest.raises(SystemExit) as exit, drain_on_sigterm():
        signal.raise_signal(signal.SIGTERM)  # between two runs
    assert exit.value.code == 143
    block = drain_on_sigterm()
    block.__enter__()
    signal.raise_signal(signal.SIGTERM)
    block.__exit__(LookupError, LookupError(), None)  # another error stays what it is
    with drain_on_sigterm():
        pass


def test_handlers_are_put_back() -> None:
    calls = []

    def own(number: int, frame: object) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with drain_on_sigterm(exit_code=None) as outer:
            with drain_on_sigterm(exit_code=None) as inner:
                signal.raise_signal(signal.SIGTERM)
                assert inner.drain_requested
                assert outer.drain_requested, "a block around this one is drained, too"
                assert not calls
                signal.raise_signal(signal.SIGTERM)
                assert len(calls) == 1
            assert signal.getsignal(signal.SIGTERM) is own
        with drain_on_sigterm():
            other = signal.signal(signal.SIGTERM, signal.SIG_IGN)
            assert callable(other)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "another's was taken away"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_the_main_thread_handles_signals() -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            drain_on_sigterm().__enter__()
        except ConfigurationError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "request_drain" in str(errors[0])
    assert RunControl().drain_requested is False
