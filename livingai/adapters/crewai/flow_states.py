"""States of flows, and what flows wait for, as plain values and back."""

from __future__ import annotations

from typing import Any

from crewai.flow.async_feedback.types import PendingFeedbackContext
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from livingai.adapters.shared_values import moment_of
from livingai.asked import shown
from livingai.errors import CorruptRowError, StateEncodingError
from livingai.protocol.ranges import RangedNode


def plain_state(state: object) -> dict[str, Any]:
    """A flow's state with its pydantic models as JSON values.

    Raises:
        StateEncodingError: it is neither a dict nor a model, or a model has no JSON form.
    """
    if isinstance(state, BaseModel):
        state = _plain_model(state)
    if not isinstance(state, dict):
        raise StateEncodingError(
            f"a flow's state is a dict or a pydantic model, not {shown(state)}"
        )
    return {key: _plain(value) for key, value in state.items()}


def _plain(value: Any) -> Any:
    """``value`` with pydantic models in its dicts and lists as JSON values."""
    if isinstance(value, BaseModel):
        return _plain_model(value)
    if type(value) is dict:
        return {key: _plain(each) for key, each in value.items()}
    if type(value) is list:
        return [_plain(each) for each in value]
    return value


def _plain_model(model: BaseModel) -> Any:
    try:
        return model.model_dump(mode="json")
    except PydanticSerializationError as error:
        raise StateEncodingError(
            f"a {type(model).__name__} in the flow's state has no JSON form: {error}. Give the "
            "field a type that pydantic can serialize, or exclude it"
        ) from error


def state_of(entry: RangedNode | None) -> Any:
    """An entry's state, a dict; None: there is no entry.

    Raises:
        CorruptRowError: it holds no dict.
    """
    if entry is not None and not isinstance(entry.state, dict):
        why = "retention has dropped it" if entry.state is None else "another program wrote it"
        raise CorruptRowError(
            f"the state of {entry.node.execution_id} is no dict but {shown(entry.state)}: {why}"
        )
    return None if entry is None else entry.state


def context_of(pause: RangedNode) -> PendingFeedbackContext:
    """What the flow of a pause waits for.

    Raises:
        CorruptRowError: the entry does not say.
    """
    try:
        return PendingFeedbackContext.from_dict(pause.node.input)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise CorruptRowError(
            f"{pause.node.id} is no feedback that a flow waits for: {shown(error)}"
        ) from error


def newest_of(entries: list[RangedNode | None]) -> RangedNode | None:
    """The newest of the entries that are there."""
    there = [entry for entry in entries if entry is not None]
    return max(there, key=lambda entry: moment_of(entry.node.id), default=None)
