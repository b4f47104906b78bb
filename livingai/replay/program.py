"""Replay of a program: its calls are made or served, and recorded as a new execution."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from livingai.errors import ConfigurationError, ReplayError
from livingai.node import ExecutionNode, Status
from livingai.replay.compare import How
from livingai.replay.handlers import program_of
from livingai.replay.matching import ReplayTape
from livingai.replay.mode import ReplayMode, Request
from livingai.replay.recording import Recording, fresh
from livingai.replay.rules import Rules, replace_input
from livingai.runs.base import BaseRun
from livingai.runs.calls import CALL, CHECKPOINT, ROLE, Call, node_id
from livingai.runs.effects import Effect, ReadState, Save, Work, do
from livingai.runs.failures import RAISED
from livingai.runs.ownership import Ownership
from livingai.runs.policy import ResumePolicy, RunSettings
from livingai.runs.ports import RunEngine
from livingai.runs.recorder import Recorder, raise_recorded
from livingai.runs.run import Run, SyncRun
from livingai.runs.scopes import Scope

R = TypeVar("R", bound=BaseRun)


@dataclass(frozen=True, slots=True)
class Replay:
    """What is replayed, how, and the state to begin with."""

    recording: Recording
    request: Request
    rules: Rules
    state: Any = None

    def settings(self, tape: ReplayTape) -> RunSettings:
        """The settings of the replay's run; its life says that it is a replay."""
        marks = {
            "parent_execution": self.recording.execution_id,
            "replay_mode": self.request.mode.value,
        }
        return RunSettings(metadata=marks, tape=tape)


class ReplayRecorder(Recorder):
    """Serves calls from the record of another execution, or makes them, as the rules say."""

    def __init__(
        self, execution_id: str, owner: Ownership, replay: Replay, tape: ReplayTape
    ) -> None:
        super().__init__(execution_id, owner, ResumePolicy(), None)
        self._recording = replay.recording
        self._mode = replay.request.mode
        self._rules = replay.rules
        self._replayed = tape
        #: Calls that were served after something had come out differently, though their functions
        #: use variables besides their arguments: by name, these variables.
        self.unseen: dict[str, tuple[str, ...]] = {}
        self._differs = False

    def perform(self, call: Call, scope: Scope) -> Work[Any]:
        """As :meth:`Recorder.perform`. An error that ends the replay ends it even if the program
        catches it."""
        try:
            return (yield from super().perform(call, scope))
        except ReplayError as error:
            self.broken = self.broken or error
            raise

    def _perform(self, call: Call, scope: Scope) -> Work[Any]:
        if self._replayed.find(call) is not None:  # by an earlier attempt of a call around it
            return (yield from super()._perform(call, scope))
        match = self._replayed.match(call)
        recorded = match.node
        how = self._rules.decide(call, match)
        self._look_at_variables(call, how)
        yield from self.owner.check()
        yield from self._announce(scope)
        if how is How.RUN:
            override = self._rules.override(recorded)
            if override.has_input:
                replace_input(call, override.input)
            return (yield from self._marked(self._call(call, scope, None), how, recorded))
        assert recorded is not None
        return (yield from self._marked(self._give(call, recorded, how), how, recorded))

    def _look_at_variables(self, call: Call, how: How) -> None:
        """Note a call that is served for its arguments, but uses variables that may differ."""
        self._differs = self._differs or how is How.REPLACED or how is How.RUN
        if self._mode is ReplayMode.COUNTERFACTUAL and self._differs and how is How.SERVED:
            names = variables_of(call.function)
            if names:
                self.unseen[call.name] = names

    def _give(self, call: Call, recorded: ExecutionNode, how: How) -> Work[Any]:
        """Record what is served, with the calls that were made inside of it, and return it."""
        node = call.node(self.execution_id, recorded.status)
        node.completed_at = node.created_at
        if how is How.REPLACED:
            node.status, node.output = Status.SUCCESS, self._rules.override(recorded).output
        else:
            served = fresh(recorded)  # the program may do with it what it likes
            node.output, node.error = served.output, served.error
            if RAISED in recorded.metadata:
                node.metadata[RAISED] = served.metadata[RAISED]
        yield from do(Save(node))
        if how is How.SERVED:
            yield from self._give_inner(call, recorded)
        if node.status is Status.FAILED:
            raise_recorded(node)
        return node.output

    def _give_inner(self, call: Call, recorded: ExecutionNode) -> Work[None]:
        """Record the calls that were made inside of a served one: the replay has them, too."""
        before = len(str(recorded.metadata[CALL]))
        for inner_id in self._recording.ordered(self._recording.descendants([recorded.id])):
            inner = fresh(self._recording.by_id[inner_id])
            path = inner.metadata.get(CALL)
            parent = self._recording.by_id.get(inner.parent_id or "")
            if not isinstance(path, str) or parent is None:
                continue
            outer = str(parent.metadata.get(CALL, ""))
            inner.metadata[CALL] = f"{call.path}{path[before:]}"
            inner.metadata["replay_of"] = inner.id
            inner.execution_id = self.execution_id
            inner.id = node_id(self.execution_id, inner.metadata[CALL])
            inner.parent_id = node_id(self.execution_id, f"{call.path}{outer[before:]}")
            inner.cost_tokens, inner.latency_ms = 0, 0.0
            state = None
            if inner.metadata.get(ROLE) == CHECKPOINT:
                state = yield from do(ReadState(inner_id))
            yield from do(Save(inner, None, state))

    def _marked(self, work: Work[Any], how: How, recorded: ExecutionNode | None) -> Work[Any]:
        """``work``, whose nodes say that they belong to a replay."""
        marks = {
            "parent_execution": self._recording.execution_id,
            "replay_mode": self._mode.value,
            "replayed": how.value,
        }
        if recorded is not None:
            marks["replay_of"] = recorded.id
        value: Any = None
        step = work.send
        while True:
            try:
                effect: Effect[Any] = step(value)
            except StopIteration as end:
                return end.value
            if isinstance(effect, Save):
                effect.node.metadata.update({**marks, **_own_mark(effect.node)})
            try:
                value = yield effect
                step = work.send
            except BaseException as error:
                value, step = error, work.throw


def variables_of(function: Any) -> tuple[str, ...]:
    """Variables around a function that hold data: what it may use besides its arguments. Not its
    globals, which are mostly constants."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    found = []
    for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if not callable(value) and not isinstance(value, BaseRun | ModuleType):
            found.append(name)
    return tuple(found)


def _own_mark(node: ExecutionNode) -> dict[str, Any]:
    """The mark that a served inner call has already; that of the call around it is not for it."""
    known = node.metadata.get("replay_of")
    return {} if known is None else {"replay_of": known}


@dataclass(slots=True)
class RunProgram(Effect[tuple[Any, Exception | None]]):
    """Run a program against a record; the value is what it returned, and the error that ended it.

    The run is of the usual class, not of a subclass: where it is an argument of a recorded call,
    its class is part of the call's input.
    """

    program: Any
    execution_id: str
    replay: Replay
    #: The run's recorder, once the program has begun.
    recorder: ReplayRecorder | None = None

    async def perform(self, engine: RunEngine) -> tuple[Any, Exception | None]:
        prepared = self._prepared(Run, engine)
        try:
            async with prepared as run:
                self._restore(run)
                output = await program_of(self.program, run)
        except Exception as error:
            return None, error
        return output, None

    def perform_sync(self, engine: RunEngine) -> tuple[Any, Exception | None]:
        prepared = self._prepared(SyncRun, engine)
        try:
            with prepared as run:
                self._restore(run)
                output = program_of(self.program, run)
                if inspect.iscoroutine(output):
                    output.close()
                    raise ConfigurationError("the program is asynchronous: use `await run(...)`")
        except Exception as error:
            return None, error
        return output, None

    def _prepared(self, kind: type[R], engine: RunEngine) -> R:
        """A run that replays another execution."""
        matching = ReplayTape(self.replay.recording)
        run = kind(engine, self.execution_id, self.replay.settings(matching))
        run._recorder = self.recorder = ReplayRecorder(
            self.execution_id, run._owner, self.replay, matching
        )
        return run

    def _restore(self, run: BaseRun) -> None:
        state = self.replay.state
        run.restored_state, run.resumed = state, state is not None
