"""What a run does with a call: serve it from the record, make it (again), or ask a resolver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, TypedDict

from livingai.errors import ConfigurationError
from livingai.keywords import checked
from livingai.node import ExecutionNode, Status
from livingai.runs.calls import Call
from livingai.runs.tape import Tape


class Decision(StrEnum):
    """What a :class:`Policy` decides about one call."""

    #: Call the function, and record its outcome.
    CALL = "call"
    #: Return the recorded output, or raise the recorded exception.
    SERVE = "serve"
    #: It may have been made before a crash: ask the resolver.
    RESOLVE = "resolve"


class Policy(Protocol):
    """Decides for each call of a run. A replay has policies of its own."""

    def decide(self, call: Call, recorded: ExecutionNode | None) -> Decision:
        """``recorded`` is the node of the same call, if there is one."""


@dataclass(frozen=True, slots=True)
class ResumePolicy:
    """Serve calls that have an outcome; make those that have none, but ask the resolver about
    tools.

    With ``retry_failed`` idempotent calls that failed are made again.
    """

    retry_failed: bool = False

    def decide(self, call: Call, recorded: ExecutionNode | None) -> Decision:
        """See :class:`Policy`."""
        if recorded is None or recorded.status is Status.PENDING:
            return Decision.CALL
        if recorded.status is Status.RUNNING:
            return Decision.CALL if call.options.idempotent else Decision.RESOLVE
        if recorded.status is Status.FAILED and self.retry_failed and call.options.idempotent:
            return Decision.CALL
        return Decision.SERVE


class ResolutionAction(StrEnum):
    """The three answers of a resolver, see :class:`Resolution`."""

    DONE = "done"
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Resolution:
    """A resolver's answer about a tool in doubt. It is recorded, so each tool is asked about once.

    * ``Resolution.done(output)``: it happened, and this is its result.
    * ``Resolution.retry()``: it did not happen (or may happen twice): call it again.
    * ``Resolution.fail(error)``: go on as if it had raised ``error``.
    """

    action: ResolutionAction
    output: Any = None
    error: Exception | None = None

    @classmethod
    def done(cls, output: Any = None) -> Resolution:
        """It happened."""
        return cls(ResolutionAction.DONE, output)

    @classmethod
    def retry(cls) -> Resolution:
        """Call it again."""
        return cls(ResolutionAction.RETRY)

    @classmethod
    def fail(cls, error: Exception | str = "a resolver decided that it failed") -> Resolution:
        """Raise ``error`` (a text: a RuntimeError with it)."""
        return cls(
            ResolutionAction.FAIL, error=RuntimeError(error) if isinstance(error, str) else error
        )


#: Decides about a tool in doubt; None: still in doubt. May be asynchronous in an asynchronous run.
Resolver = Callable[[ExecutionNode], "Resolution | Awaitable[Resolution | None] | None"]
#: Where a resumed program begins; see :class:`RunSettings`.
ResumeAt = Literal["start", "checkpoint"]


@checked("setting of a run")
@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run is entered."""

    #: Decides about tools in doubt; None: they raise InDoubtError.
    resolver: Resolver | None = None
    #: Store each tool's intent before the call: at most once even across machines, at the price of
    #: a commit per tool.
    exclusive: bool = False
    #: "start": the program runs from its beginning and is served what it did. "checkpoint": it
    #: finds its newest state in ``run.state`` and begins behind the checkpoint.
    resume: ResumeAt = "start"
    #: Make idempotent calls that failed again, instead of raising what they raised.
    retry_failed: bool = False
    #: Plain values for the metadata of this life's node.
    metadata: dict[str, Any] | None = None
    #: For replays: other decisions, and another execution's record.
    policy: Policy | None = None
    tape: Tape | None = None

    def validate(self) -> None:
        """Raise ConfigurationError for settings that cannot work."""
        if self.resume not in ("start", "checkpoint"):
            raise ConfigurationError(f"resume must be 'start' or 'checkpoint', not {self.resume!r}")
        if self.resolver is not None and not callable(self.resolver):
            raise ConfigurationError(
                f"resolver must be a function that takes a node, not {self.resolver!r:.200}"
            )


class RunKeywords(TypedDict, total=False):
    """The fields of :class:`RunSettings` as keywords, for type checkers and editors."""

    resolver: Resolver | None
    exclusive: bool
    resume: ResumeAt
    retry_failed: bool
    metadata: dict[str, Any] | None
    policy: Policy | None
    tape: Tape | None


def make_settings(given: RunKeywords) -> RunSettings:
    """Settings from keywords. Raises ConfigurationError for an unknown one."""
    settings = RunSettings(**given)
    settings.validate()
    return settings
