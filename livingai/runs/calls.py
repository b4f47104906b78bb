"""One recorded call: its options, its identity, and what is recorded of its input.

A call's identity is its *path*: the position in its scope behind the path of that scope, such as
``2`` (the third call of the program), ``2.0`` (the first call inside of that one), ``t1.0`` (the
first call of the second task that the program started), ``(left).0`` (in ``run.scope("left")``).
The path does not depend on which call finishes first, so a resumed program finds the records of
its own calls.
"""

from __future__ import annotations

import hashlib
import reprlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypedDict

import xxhash

from livingai import serial
from livingai.errors import ConfigurationError, StateEncodingError
from livingai.keywords import checked
from livingai.node import ExecutionNode, NodeType, Status
from livingai.runs.arguments import describable
from livingai.serial.scalars import MARKED_PREFIX

#: Key of a node's metadata that holds its path in the program.
CALL: Final = "call"
#: Key of a node's metadata that marks nodes which are no calls: see ``RUN`` and ``CHECKPOINT``.
ROLE: Final = "role"
#: Role of the node that records that a process entered a run, and how that ended.
RUN: Final = "run"
#: Role of a node that was saved with ``run.state``.
CHECKPOINT: Final = "checkpoint"
#: Inputs of up to so many bytes are recorded whole; of larger ones a hash and the beginning.
INPUT_BYTES: Final = 16_384
_PREVIEW_CHARS: Final = 200
_LONGEST_PATH: Final = 400


@checked("option of a call")
@dataclass(frozen=True, slots=True)
class CallOptions:
    """How a step or tool is called.

    ``retries`` are attempts after the first one, ``backoff_s`` the seconds before the second
    attempt (doubled each time, at most 60), ``retry_on`` the exceptions that are worth another
    attempt, ``timeout`` seconds for each attempt. ``thread=False``: a plain function of an
    asynchronous run is called in the event loop's thread, and holds it up (without a timeout).
    """

    idempotent: bool = True
    retries: int = 0
    backoff_s: float = 0.0
    retry_on: tuple[type[Exception], ...] | None = None
    timeout: float | None = None
    thread: bool = True

    def validate(self) -> None:
        """Raise ConfigurationError for options that cannot work."""
        if type(self.retries) is not int or self.retries < 0:
            raise ConfigurationError(
                f"retries must be a whole number of 0 or more, not {self.retries!r}"
            )
        if not _is_number(self.backoff_s) or not self.backoff_s >= 0:
            raise ConfigurationError(f"backoff_s must be 0 seconds or more, not {self.backoff_s!r}")
        if self.timeout is not None and (not _is_number(self.timeout) or not self.timeout > 0):
            raise ConfigurationError(
                f"timeout must be a number of seconds above 0, or None, not {self.timeout!r}"
            )
        if not isinstance(self.idempotent, bool):
            raise ConfigurationError(f"idempotent must be True or False, not {self.idempotent!r}")
        if not isinstance(self.thread, bool):
            raise ConfigurationError(f"thread must be True or False, not {self.thread!r}")
        kinds = self.retry_on
        if kinds is not None and not (isinstance(kinds, tuple) and all(map(_is_exception, kinds))):
            raise ConfigurationError(
                "retry_on must be a tuple of exception classes, such as (ConnectionError,), "
                f"not {kinds!r}"
            )
        if self.retries and not self.idempotent and self.retry_on is None:
            raise ConfigurationError(
                "a tool that is not idempotent could have its effect twice if it is retried: mark "
                "it idempotent=True, or name in retry_on= the exceptions that it raises only if it "
                "had no effect"
            )

    def retryable(self, error: Exception) -> bool:
        """Whether another attempt is worth it after ``error``, if there is one left."""
        if isinstance(error, TimeoutError) and not self.idempotent:
            return False  # it may still have happened
        return isinstance(error, self.retry_on or Exception)


class CallKeywords(TypedDict, total=False):
    """The fields of :class:`CallOptions` as keywords, for type checkers and editors."""

    idempotent: bool
    retries: int
    backoff_s: float
    retry_on: tuple[type[Exception], ...] | None
    timeout: float | None
    thread: bool


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_exception(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)


def make_options(given: CallKeywords, *, idempotent: bool) -> CallOptions:
    """Options from keywords. Raises ConfigurationError for one that is not known or cannot work."""
    keywords: CallKeywords = {"idempotent": idempotent, **given}
    options = CallOptions(**keywords)
    options.validate()
    return options


@dataclass(frozen=True, slots=True)
class Input:
    """The arguments of a call at the moment of the call: ``value`` as it is recorded, ``packed``
    to compare it by."""

    value: Any
    packed: bytes

    @classmethod
    def capture(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Input:
        """Take the arguments down; what cannot be encoded is described (:func:`describable`)."""
        value: Any = {"args": list(args), "kwargs": {name: kwargs[name] for name in sorted(kwargs)}}
        try:
            packed = serial.pack(value)
        except StateEncodingError:
            value = {
                "args": [describable(arg) for arg in value["args"]],
                "kwargs": {name: describable(arg) for name, arg in value["kwargs"].items()},
            }
            packed = serial.pack(value)
        if len(packed) > INPUT_BYTES:
            stable = packed if packed[:1] != MARKED_PREFIX else _stable(value)
            value = {
                "digest": xxhash.xxh3_128_hexdigest(stable),
                "bytes": len(packed),
                "preview": reprlib.repr(value)[:_PREVIEW_CHARS],
            }
            packed = serial.pack(value)
        return cls(value, packed)

    def recorded(self) -> Any:
        """The value as it was at the moment of the call, even if the program has changed it
        since."""
        return serial.unpack(self.packed)

    def same_as(self, recorded: Any) -> bool:
        """Whether ``recorded`` is the input of the same call."""
        if "digest" in self.value and isinstance(recorded, dict):
            return bool(self.value["digest"] == recorded.get("digest"))
        if serial.pack(recorded) == self.packed:
            return True
        # Sets have no order, so equal values may have other bytes; and NaN is not equal to itself.
        mine = self.recorded()
        return bool(mine == recorded) or _stable(mine) == _stable(recorded)


def _stable(value: Any) -> bytes:
    """``value`` as bytes that do not depend on the process."""
    return serial.pack(_sorted_sets(value))


def _sorted_sets(value: Any) -> Any:
    """``value`` with its sets in an order that does not depend on the process."""
    if isinstance(value, dict):
        return {key: _sorted_sets(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sorted_sets(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(serial.pack(_sorted_sets(item)) for item in value)
    return value


@dataclass(slots=True)
class Call:
    """One call of ``run.step``, ``run.tool`` or ``run.branch``."""

    kind: NodeType
    name: str
    path: str
    parent_id: str | None
    input: Input
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CallOptions
    #: Whether its node is recorded.
    announced: bool = False
    created_at: float = field(default_factory=time.time)
    cost_tokens: int = 0
    #: Failed attempts so far: ``[type, message, milliseconds]`` each.
    attempts: list[list[Any]] = field(default_factory=list)

    @property
    def function_name(self) -> str:
        """Module and qualified name of the function, for people."""
        module = getattr(self.function, "__module__", None) or "?"
        return f"{module}:{getattr(self.function, '__qualname__', type(self.function).__name__)}"

    def node(self, execution_id: str, status: Status) -> ExecutionNode:
        """The call's node. Its id is derived from execution and path, so when another process
        makes the call again, it updates the same node."""
        metadata: dict[str, Any] = {
            "name": self.name, CALL: self.path, "function": self.function_name,
        }  # fmt: skip
        if self.kind is NodeType.TOOL or not self.options.idempotent:
            metadata["idempotent"] = self.options.idempotent
        if self.attempts:
            metadata["attempts"] = [list(attempt) for attempt in self.attempts]
        return ExecutionNode(
            execution_id, self.kind, status, self.input.recorded(), parent_id=self.parent_id,
            cost_tokens=self.cost_tokens, metadata=metadata, id=node_id(execution_id, self.path),
            created_at=self.created_at,
        )  # fmt: skip


def node_id(execution_id: str, path: str) -> str:
    """The id of a call's node: unique to execution and path, and short."""
    if len(path) > _LONGEST_PATH:
        path = f"#{hashlib.sha256(path.encode()).hexdigest()}"
    return f"{xxhash.xxh3_128_hexdigest(execution_id.encode('utf-8', 'surrogatepass'))}.{path}"
