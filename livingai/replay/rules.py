"""Whether each call of a replayed program is served, made or replaced; ``docs/REPLAY.md`` has the
table."""

from __future__ import annotations

from typing import Any

from livingai.errors import ConfigurationError, ConsentRequiredError, NotRecordedError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.replay.compare import How
from livingai.replay.matching import Match
from livingai.replay.mode import Override, ReplayMode, Request
from livingai.replay.recording import Recording
from livingai.runs.calls import CALL, Call, Input
from livingai.runs.diff import differences

_NO_OVERRIDE = Override()


class Rules:
    """Decides, call by call, for one replay of a program."""

    def __init__(self, recording: Recording, request: Request) -> None:
        """Raises:
        NodeNotFoundError: a node that was named is not in the record.
        ConfigurationError: an override cannot be used for a call.
        ConsentRequiredError: FULL would call a tool with side effects.
        """
        self._request = request
        self._execution_id = recording.execution_id
        self._overrides = {
            node_id: override for node_id, override in request.overrides.items()
            if _replaces(recording.node(node_id), override)
        }  # fmt: skip
        targets = set(self._overrides)
        self._before: set[str] = set()
        if request.mode is ReplayMode.FROM_NODE:
            assert request.node_id is not None
            targets = {request.node_id}
            self._before = {node.id for node in recording.before(request.node_id)}
        #: Calls that have to be made because a call inside of them is replaced or runs again.
        self._around = {node_id for target in targets for node_id in recording.ancestors(target)}
        risky = next((n for n in recording.nodes if CALL in n.metadata and not n.idempotent), None)
        if request.mode is ReplayMode.FULL and risky is not None:
            self._consent(f"{risky.metadata.get('name')!r} ({risky.id})")

    def override(self, recorded: ExecutionNode | None) -> Override:
        """What replaces parts of a recorded node."""
        return _NO_OVERRIDE if recorded is None else self._overrides.get(recorded.id, _NO_OVERRIDE)

    def decide(self, call: Call, match: Match) -> How:
        """Where the result of a call comes from.

        Raises:
            ConsentRequiredError: it would have side effects.
            NotRecordedError: MOCK_TOOLS has nothing to serve.
        """
        mode, recorded = self._request.mode, match.node
        if mode is ReplayMode.MOCK_TOOLS:
            return self._mocked(call, match)
        override = self.override(recorded)
        if override.has_output:
            return How.REPLACED
        unchanged = recorded is not None and match.same and _ended(recorded)
        unchanged = unchanged and not override.has_input
        if unchanged and recorded is not None and recorded.id not in self._around:
            if mode is ReplayMode.COUNTERFACTUAL or recorded.id in self._before:
                return How.SERVED
            effects = not call.options.idempotent and not self._request.allow_side_effects
            if mode is ReplayMode.FROM_NODE and effects:
                return How.SERVED
        if not call.options.idempotent:
            self._consent(f"{call.name!r} ({call.path}) with {call.input.value!r:.200}")
        return How.RUN

    def _mocked(self, call: Call, match: Match) -> How:
        if call.kind is not NodeType.TOOL and call.options.idempotent:
            return How.RUN
        if match.node is not None and _ended(match.node):
            return How.SERVED
        if self._request.allow_side_effects:
            return How.RUN
        why = "is recorded without a result (in doubt)" if match.node else "is not in the record"
        raise NotRecordedError(
            f"MOCK_TOOLS of {self._execution_id!r}: the call of {call.name!r} ({call.path}) with "
            f"{call.input.value!r:.200} {why}, so there is nothing to serve; "
            "pass allow_side_effects=True to call what is not recorded"
        )

    def _consent(self, what: str) -> None:
        if not self._request.allow_side_effects:
            raise ConsentRequiredError(
                f"{self._request.mode.name} of {self._execution_id!r} would really call {what}, "
                "which may have side effects; pass allow_side_effects=True if that is what you "
                "want, or use MOCK_TOOLS"
            )


def _ended(node: ExecutionNode) -> bool:
    return node.status in (Status.SUCCESS, Status.FAILED)


def _replaces(recorded: ExecutionNode, override: Override) -> bool:
    """Whether an override gives anything but what was recorded."""
    if override.has_output:
        if recorded.status is not Status.SUCCESS:
            return True
        return bool(differences(recorded.output, override.output, limit=1))
    arguments(override.input)
    return bool(differences(recorded.input, override.input, limit=1))


def arguments(given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments out of a call's input.

    Raises:
        ConfigurationError: it is not the input of a call.
    """
    if isinstance(given, dict) and set(given) == {"args", "kwargs"}:
        args, kwargs = given["args"], given["kwargs"]
        if isinstance(args, list | tuple) and isinstance(kwargs, dict):
            return tuple(args), dict(kwargs)
    raise ConfigurationError(
        'the input of a recorded call must be {"args": [...], "kwargs": {...}}, '
        f"not {given!r:.200}"
    )


def replace_input(call: Call, given: Any) -> None:
    """Make the call with other arguments."""
    call.args, call.kwargs = arguments(given)
    call.input = Input.capture(call.args, call.kwargs)
