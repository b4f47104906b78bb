"""The session: reads a record, replays it as a new execution, compares the two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from livingai.engine import CheckpointEngine
from livingai.errors import ConfigurationError, ExecutionNotFoundError, ReplayDivergedError
from livingai.node import MAX_ID_BYTES, _new_id
from livingai.replay.compare import ReplayResult
from livingai.replay.drive import drive, drive_sync, takes
from livingai.replay.graph import GraphReplay
from livingai.replay.mode import ReplayMode, Request, make_request
from livingai.replay.recording import Recording, newest_state_before

Handler = Callable[..., Any]


class ReplaySession:
    """Replays one recorded execution, as often as you like. The record is only read.

    Args:
        engine: reads the record and writes the replays.
        execution_id: the recorded execution.
    """

    def __init__(self, engine: CheckpointEngine, execution_id: str) -> None:
        self.engine = engine
        self.execution_id = execution_id

    async def run(
        self,
        handler: Handler,
        *,
        mode: ReplayMode | str = ReplayMode.MOCK_TOOLS,
        node_id: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        allow_side_effects: bool = False,
        allow_live: bool = False,
        strict: bool = False,
        new_id: str | None = None,
    ) -> ReplayResult:
        """Replay the record as a new execution, ``new_id`` if given, and compare the two.

        Args:
            handler: ``handler(node)`` or ``handler(node, inputs)``, plain or a coroutine function,
                returns the node's output; ``inputs`` is a
                :class:`~livingai.replay.graph.ReplayInputs`.
            mode: what runs again and what is served, see :class:`ReplayMode`.
            node_id: FROM_NODE: the first node that runs; COUNTERFACTUAL: the node that
                ``overrides`` is about.
            overrides: COUNTERFACTUAL: ``{"output": ...}`` or ``{"input": ...}``, or without a
                ``node_id`` such a dict per node id.
            allow_side_effects: nodes that are not idempotent may really run.
            allow_live: replay what is there of a run that is still being written.
            strict: raise if the replay is not the same as the record.

        Raises:
            ExecutionNotFoundError, NodeNotFoundError: there is no such execution or node.
            ConfigurationError: mode and other arguments do not fit together.
            StillBeingWrittenError, ConsentRequiredError: see ``allow_live`` and
                ``allow_side_effects``. Nothing was written.
            InvalidNodeError, StateEncodingError, StateTooLargeError: a handler's output cannot be
                encoded; its node is saved as FAILED in the replay.
            ReplayDivergedError: see ``strict``; the replay is stored.

        What a handler raises is recorded in the replay as FAILED and reported in the result.
        """
        request = make_request(mode, node_id, overrides, allow_side_effects)
        recording = Recording(self.execution_id, await self.engine.nodes(self.execution_id))
        state = await asyncio.to_thread(self._prepare, recording, request, allow_live, new_id)
        replay = GraphReplay(recording, request, new_id or self._new_name(), state)
        await drive(self.engine, replay.script(), takes(handler))
        again = Recording(self.execution_id, await self.engine.nodes(self.execution_id))
        return self._result(replay, again, strict)

    def run_sync(
        self,
        handler: Handler,
        *,
        mode: ReplayMode | str = ReplayMode.MOCK_TOOLS,
        node_id: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        allow_side_effects: bool = False,
        allow_live: bool = False,
        strict: bool = False,
        new_id: str | None = None,
    ) -> ReplayResult:
        """Twin of :meth:`run`, for a handler that is not a coroutine function."""
        request = make_request(mode, node_id, overrides, allow_side_effects)
        recording = Recording(self.execution_id, self.engine.nodes_sync(self.execution_id))
        state = self._prepare(recording, request, allow_live, new_id)
        replay = GraphReplay(recording, request, new_id or self._new_name(), state)
        drive_sync(self.engine, replay.script(), takes(handler))
        again = Recording(self.execution_id, self.engine.nodes_sync(self.execution_id))
        return self._result(replay, again, strict)

    def _prepare(
        self, recording: Recording, request: Request, allow_live: bool, new_id: str | None
    ) -> Any:
        """Check that the record can be replayed under that name; the state to start from."""
        if new_id is not None:
            with suppress(ExecutionNotFoundError):
                self.engine.latest_sync(new_id)
                raise ConfigurationError(
                    f"there is an execution {new_id!r} already, and a replay never writes into an "
                    "old one; choose another new_id, or none"
                )
        if not allow_live:
            recording.require_settled(self.engine.directory)
        if request.mode is not ReplayMode.FROM_NODE:
            return None
        assert request.node_id is not None
        return newest_state_before(self.engine, recording, request.node_id)

    def _new_name(self) -> str:
        own = f"replay-{_new_id()}"
        name = f"{self.execution_id}~{own}"
        return name if len(name.encode("utf-8", "replace")) <= MAX_ID_BYTES else own

    def _result(self, replay: GraphReplay, again: Recording, strict: bool) -> ReplayResult:
        result = ReplayResult(
            execution_id=replay.execution_id,
            parent_execution=self.execution_id,
            mode=replay.request.mode,
            nodes=tuple(replay.nodes),
            state=replay.state,
            error=replay.error,
            record_changed=again.fingerprint() != replay.recording.fingerprint(),
        )
        if strict and not result.same:
            raise ReplayDivergedError(result.report())
        return result
