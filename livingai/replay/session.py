"""The session: reads a record, replays it as a new execution, compares the two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from livingai.engine.engine import CheckpointEngine
from livingai.errors import (
    ConfigurationError,
    ExecutionNotFoundError,
    NotRecordedError,
    ReplayDivergedError,
    StateEncodingError,
)
from livingai.names_04 import had_other_keywords, refuse_old
from livingai.node import MAX_ID_BYTES, ErrorInfo, new_id
from livingai.replay.align import align
from livingai.replay.compare import ReplayResult
from livingai.replay.graph import GraphReplay
from livingai.replay.handlers import is_asynchronous, is_program, takes
from livingai.replay.mode import ReplayKeywords, ReplayMode, Request, make_request
from livingai.replay.program import Replay, RunProgram
from livingai.replay.recording import Recording, newest_state_before
from livingai.replay.rules import Rules
from livingai.runs.calls import CALL
from livingai.runs.diff import differences
from livingai.runs.effects import Compute, ReadLatest, ReadNodes, Work, do, drive, drive_sync
from livingai.runs.failures import is_own
from livingai.stores.base import Store

#: A handler ``(node)`` or ``(node, inputs)``, functions by name, or a program ``(run)``.
Handler = Callable[..., Any] | Mapping[str, Callable[..., Any]]


@had_other_keywords
class ReplaySession:
    """Replays one recorded execution, any number of times. The record is only read.

    Args:
        engine: reads the record and writes the replays.
        execution_id: the recorded execution.
    """

    def __init__(self, engine: CheckpointEngine, execution_id: str) -> None:
        given: Any = engine
        if isinstance(given, Store):  # as in 0.4
            refuse_old(["store"], "ReplaySession")
        self.engine = engine
        self.execution_id = execution_id

    async def run(self, handler: Handler, **options: Unpack[ReplayKeywords]) -> ReplayResult:
        """Replay the record as a new execution, and compare the two.

        Args:
            handler: a *program*, which is a function of a run (its parameter is called ``run``, or
                it has none), or a *handler*, called for node after node of the recorded graph as
                ``handler(node)`` or ``handler(node, inputs)`` (a
                :class:`~livingai.replay.handlers.ReplayInputs`), or a dict of functions by the name
                of the node. Plain or asynchronous; a plain program runs in a thread.
            options: ``mode``, ``node_id``, ``overrides``, ``allow_side_effects``, ``allow_live``,
                ``strict``, ``new_id``: see :class:`~livingai.replay.mode.ReplayKeywords`.

        Raises:
            ExecutionNotFoundError, NodeNotFoundError: there is no such execution or node.
            ConfigurationError: mode and other arguments do not fit together.
            FunctionMissingError: a node would run whose function is not given.
            StillBeingWrittenError: see ``allow_live``. Nothing was written.
            ConsentRequiredError: see ``allow_side_effects``. The tool was not called.
            InvalidNodeError, StateEncodingError, StateTooLargeError: a result cannot be recorded.
            ReplayDivergedError: see ``strict``; the replay is stored.

        What handler or program raise is recorded in the replay as FAILED and reported in the
        result, and so is a call that MOCK_TOOLS has no result for.
        """
        request = make_request(options)
        if is_program(handler) and not is_asynchronous(handler):
            return await asyncio.to_thread(self._run_sync, handler, request)
        return await drive(self.engine, self._replay(handler, request))

    def run_sync(self, handler: Handler, **options: Unpack[ReplayKeywords]) -> ReplayResult:
        """Twin of :meth:`run`, for a handler or program that is not asynchronous."""
        return self._run_sync(handler, make_request(options))

    def _run_sync(self, handler: Handler, request: Request) -> ReplayResult:
        return drive_sync(self.engine, self._replay(handler, request))

    def _replay(self, handler: Handler, request: Request) -> Work[ReplayResult]:
        recording = yield from self._read(self.execution_id)
        request = _by_ids(request, recording)
        state = yield from self._prepare(recording, request)
        name = request.new_id or self._new_name()
        if not is_program(handler):
            graph = GraphReplay(recording, request, name, state)
            yield from graph.work(takes(handler, graph.running_nodes))
            return (yield from self._graph_result(graph))
        program = RunProgram(
            handler, name, Replay(recording, request, Rules(recording, request), state)
        )
        output, error = yield from do(program)
        return (yield from self._program_result(program, output, error))

    def _read(self, execution_id: str) -> Work[Recording]:
        nodes = yield from do(ReadNodes(execution_id))
        return Recording(execution_id, nodes)

    def _prepare(self, recording: Recording, request: Request) -> Work[Any]:
        """Check that the record can be replayed under that name; the state to start from."""
        if request.new_id is not None:
            with suppress(ExecutionNotFoundError):
                yield from do(ReadLatest(request.new_id))
                raise ConfigurationError(
                    f"there is an execution {request.new_id!r} already, and a replay never writes "
                    "into one that exists; choose another new_id, or leave it out"
                )
        if not request.allow_live:
            yield from do(Compute(partial(recording.require_settled, self.engine.directory)))
        if request.mode is not ReplayMode.FROM_NODE:
            return None
        assert request.node_id is not None
        return (yield from newest_state_before(recording, request.node_id))

    def _new_name(self) -> str:
        own = f"replay-{new_id()}"
        name = f"{self.execution_id}~{own}"
        return name if len(name.encode("utf-8", "replace")) <= MAX_ID_BYTES else own

    # -- results --

    def _changed(self, recording: Recording) -> Work[bool]:
        """Whether the record is no longer what was replayed."""
        again = yield from self._read(self.execution_id)
        return (yield from do(Compute(lambda: again.fingerprint() != recording.fingerprint())))

    def _graph_result(self, graph: GraphReplay) -> Work[ReplayResult]:
        changed = yield from self._changed(graph.recording)
        result = ReplayResult(
            execution_id=graph.execution_id, parent_execution=self.execution_id,
            mode=graph.request.mode, nodes=tuple(graph.nodes), state=graph.state,
            error=graph.error, record_changed=changed,
        )  # fmt: skip
        return _checked(result, graph.request)

    def _program_result(
        self, program: RunProgram, output: Any, error: Exception | None
    ) -> Work[ReplayResult]:
        """Compare what the replay of a program recorded with the record. ``error`` is what ended
        the program; an error that ended the replay counts even if the program caught it."""
        recorder, replay, name = program.recorder, program.replay, program.execution_id
        assert recorder is not None
        error = recorder.broken or error
        if error is not None and _is_ours(error):
            raise error
        new = yield from self._read(name)
        state = (yield from do(ReadLatest(name)))[1]
        recorded_state = (yield from do(ReadLatest(self.execution_id)))[1]
        changed = yield from self._changed(replay.recording)
        info = None if error is None else ErrorInfo.from_exception(error)

        def compared() -> ReplayResult:
            return ReplayResult(
                execution_id=name, parent_execution=self.execution_id, mode=replay.request.mode,
                nodes=align(_calls(replay.recording), _calls(new)), output=output, state=state,
                error=info, error_recorded=info is not None and _ended_so(replay.recording, info),
                state_differences=differences(recorded_state, state, "state"),
                record_changed=changed, unseen=recorder.unseen,
            )  # fmt: skip

        return _checked((yield from do(Compute(compared))), replay.request)


def _by_ids(request: Request, recording: Recording) -> Request:
    """The request with ids of nodes instead of paths and names.

    Raises:
        NodeNotFoundError: there is no such node, or more than one.
        ConfigurationError: two overrides are about one node.
    """
    node_id = None if request.node_id is None else recording.named(request.node_id).id
    overrides = {recording.named(key).id: each for key, each in request.overrides.items()}
    if len(overrides) < len(request.overrides):
        raise ConfigurationError(
            "two of the overrides name the same node, by its id, path or name; give it one"
        )
    return replace(request, node_id=node_id, overrides=overrides)


def _calls(recording: Recording) -> list[Any]:
    return [node for node in recording.nodes if CALL in node.metadata]


def _is_ours(error: Exception) -> bool:
    """Whether an error is about the replay as such, not about what the program did."""
    if isinstance(error, NotRecordedError):
        return False
    return is_own(error) or isinstance(error, StateEncodingError)


def _ended_so(recording: Recording, error: ErrorInfo) -> bool:
    """Whether the recorded program ended with the same error."""
    last = recording.lives[-1].error if recording.lives else None
    return last is not None and (last.type, last.message) == (error.type, error.message)


def _checked(result: ReplayResult, request: Request) -> ReplayResult:
    if request.strict and not result.same:
        raise ReplayDivergedError(result.report())
    return result
