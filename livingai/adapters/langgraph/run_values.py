"""What is recorded of LangChain's messages, prompts, responses, tools and documents, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

#: Entries of what a chat model is called with, and of a run's metadata, that say which model.
_MODEL_NAMES: Final = ("model", "model_name", "model_id", "ls_model_name")
_COSTS: Final = ("cost", "total_cost")


def plain(value: Any) -> Any:
    """A value as JSON has it; what JSON cannot have as its text."""
    try:
        return json.loads(json.dumps(value, default=_as_json))
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a circle
        return str(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return message(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


def message(value: BaseMessage) -> dict[str, Any]:
    """A message, without what it does not say."""
    dumped = plain(value.model_dump())
    return {key: each for key, each in dumped.items() if each not in (None, "", [], {}, False)}


def model_name(serialized: Mapping[str, Any] | None, about: Mapping[str, Any]) -> str:
    """Which model is called; else which class."""
    for name in _MODEL_NAMES:
        if isinstance(about.get(name), str):
            return str(about[name])
    return str(last_name(serialized) or "model")


def last_name(serialized: Mapping[str, Any] | None) -> str | None:
    """The name of what LangChain has serialized; None: it has none."""
    if not serialized:
        return None
    path = serialized.get("id")
    default = path[-1] if isinstance(path, Sequence) and path else None
    name = serialized.get("name") or default
    return None if name is None else str(name)


class ModelResponse(NamedTuple):
    """What a model has answered: the message (of several choices the first), or its text; tokens,
    and what it cost, if the provider says so."""

    output: Any
    usage: dict[str, Any]
    cost: float | None

    @property
    def total_tokens(self) -> int:
        """All tokens; 0: the provider says nothing."""
        total = self.usage.get("total_tokens")
        if isinstance(total, int):
            return total
        parts = [self.usage.get(f"{kind}_tokens") for kind in ("input", "output")]
        return sum(each for each in parts if isinstance(each, int))


def response(result: LLMResult) -> ModelResponse:
    """What of a model's response is recorded."""
    choices = [each for row in result.generations for each in row]
    usage: dict[str, Any] = dict((result.llm_output or {}).get("token_usage") or {})
    if "prompt_tokens" in usage:
        usage.setdefault("input_tokens", usage.pop("prompt_tokens"))
        usage.setdefault("output_tokens", usage.pop("completion_tokens", 0))
    if not choices:
        return ModelResponse(None, plain(usage), _cost(usage))
    first = choices[0]
    output: Any = first.text
    if isinstance(first, ChatGeneration):
        output = message(first.message)
        about = first.message.response_metadata
        usage |= getattr(first.message, "usage_metadata", None) or {}
        usage |= {name: about[name] for name in _COSTS if name in about}
        usage |= {
            name: about["token_usage"][name]
            for name in _COSTS
            if isinstance(about.get("token_usage"), Mapping) and name in about["token_usage"]
        }
    return ModelResponse(output, plain(usage), _cost(usage))


def _cost(usage: Mapping[str, Any]) -> float | None:
    for name in _COSTS:
        if isinstance(usage.get(name), int | float):
            return float(usage[name])
    return None


def tool_output(output: Any) -> Any:
    """What a tool has returned: of a message for the model its content and artifact."""
    if isinstance(output, BaseMessage):
        return message(output)
    return plain(output)
