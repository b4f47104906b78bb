"""The recorder: what is recorded around each call of a run, and what a recorded call returns.

The order of things is the guarantee (``docs/RECOVERY.md`` has the table of what a crash at each
place means):

* step:  check ownership → call → record the result
* tool:  check ownership → record the intent (FSYNC) → check ownership → call → record the result

Everything here is written as :mod:`effects <livingai.runs.effects>`, so it is the same with and
without an event loop.
"""

from __future__ import annotations

import time
from typing import Any, NoReturn

from livingai import serial
from livingai.errors import (
    DivergenceError,
    FencedError,
    InDoubtError,
    InvalidNodeError,
    ResultEncodingError,
    StateEncodingError,
    StateTooLargeError,
)
from livingai.node import ExecutionNode, Status, shown
from livingai.runs.calls import Call
from livingai.runs.effects import Save, Stopped, Wait, Work, do, save_failed
from livingai.runs.failures import RAISED, describe, is_own, raise_again, rebuild
from livingai.runs.in_doubt import ask, in_doubt_error, is_lost, resolved_node
from livingai.runs.invoking import Invoke
from livingai.runs.life import Life
from livingai.runs.ownership import Ownership
from livingai.runs.policy import Decision, Policy, Resolution, ResolutionAction, Resolver
from livingai.runs.scopes import Scope
from livingai.runs.tape import Tape

_LONGEST_PAUSE_S = 60.0


class Recorder:
    """Performs the calls of one run. ``broken`` is the error that ended the run: each later call
    raises it again if the program catches it and goes on."""

    def __init__(
        self,
        execution_id: str,
        owner: Ownership,
        policy: Policy,
        resolver: Resolver | None,
    ) -> None:
        self.execution_id = execution_id
        self.owner = owner
        self.tape = Tape(execution_id)
        self.broken: Exception | None = None
        #: Recorded as RUNNING before anything else is recorded; None before the run is entered.
        self.life: Life | None = None
        self._policy = policy
        self._resolver = resolver

    def perform(self, call: Call, scope: Scope) -> Work[Any]:
        """Make a call, or serve it from the record. ``scope`` is where it was made."""
        if self.broken is not None:
            raise self.broken
        try:
            return (yield from self._perform(call, scope))
        except (FencedError, DivergenceError, InDoubtError) as error:
            self.broken = error
            raise

    def _perform(self, call: Call, scope: Scope) -> Work[Any]:
        recorded = self.tape.find(call)
        decision = self._policy.decide(call, recorded)
        if decision is Decision.SERVE and self._failed_attempt(call, scope, recorded):
            decision = Decision.CALL
        if decision is Decision.SERVE:
            assert recorded is not None
            if self._resolver is None or not is_lost(recorded):
                return (yield from self.serve(call, recorded))
        yield from self.owner.check()
        yield from self._announce(scope)
        if decision is not Decision.CALL:
            assert recorded is not None
            resolution = yield from ask(self._resolver, recorded)
            yield from self.owner.check()  # a person may have been asked, for hours
            if resolution is None and decision is Decision.SERVE:
                return (yield from self.serve(call, recorded))
            if resolution is None:
                raise in_doubt_error(self.execution_id, [recorded])
            if resolution.action is not ResolutionAction.RETRY:
                return (yield from self._settle(call, recorded, resolution))
        return (yield from self._call(call, scope, recorded))

    @staticmethod
    def _failed_attempt(call: Call, scope: Scope, recorded: ExecutionNode | None) -> bool:
        """Whether a call around this one is tried again, perhaps because this one failed."""
        return (
            recorded is not None
            and recorded.status is Status.FAILED
            and call.options.idempotent
            and any(outer.attempts for outer in scope.calls())
        )

    def serve(self, call: Call, recorded: ExecutionNode) -> Work[Any]:
        """Return what is recorded, or raise it. (A replay's recorder also copies the node.)"""
        yield from ()
        if recorded.status is Status.FAILED:
            raise_recorded(recorded)
        return recorded.output

    def _announce(self, scope: Scope) -> Work[None]:
        """Call before anything of a call is recorded: saves the life as RUNNING, and the step that
        the call is made in, so that the call's node never lacks its parent."""
        if self.life is not None:
            yield from self.life.go_on()
        outer = scope.call
        if outer is not None and not outer.announced:
            outer.announced = True
            yield from do(Save(outer.node(self.execution_id, Status.RUNNING)))

    # -- a tool in doubt --

    def _settle(self, call: Call, recorded: ExecutionNode, resolution: Resolution) -> Work[Any]:
        node = resolved_node(recorded, resolution)
        try:
            yield from do(Save(node))
        except InvalidNodeError as error:
            why: Exception = error
            try:
                serial.pack(resolution.output, "result", "give")
            except StateEncodingError as found:
                why = found
            raise InvalidNodeError(
                f"Resolution.done(result) for the tool {call.name!r} cannot be recorded: {why}"
            ) from error
        if resolution.error is not None:
            raise resolution.error
        return resolution.output

    # -- making a call --

    def _call(self, call: Call, scope: Scope, recorded: ExecutionNode | None) -> Work[Any]:
        if recorded is not None:
            call.created_at = recorded.created_at
            call.attempts = [list(attempt) for attempt in recorded.metadata.get("attempts", ())]
        while True:
            if not call.options.idempotent:
                yield from self._record_intent(call)
            elif call.attempts:
                call.announced = True
                yield from do(Save(call.node(self.execution_id, Status.RUNNING)))
            self._remember(call, scope)
            inside = Scope(scope.run, f"{call.path}.", scope, call)
            began = time.perf_counter()
            try:
                output = yield Invoke(
                    call.function, call.args, call.kwargs, inside, call.options.timeout,
                    call.options.thread,
                )  # fmt: skip
            except Exception as error:
                if is_own(error):
                    raise
                latency_ms = (time.perf_counter() - began) * 1e3
                if (yield from self._try_again(call, error, latency_ms)):
                    continue
                node = yield from self._record_failure(call, error, latency_ms)
                self._remember(call, scope, node)
                if isinstance(error, StopIteration):
                    raise Stopped(error) from None
                raise
            latency_ms = (time.perf_counter() - began) * 1e3
            node = yield from self._record_success(call, output, latency_ms)
            self._remember(call, scope, node)
            return output

    def _remember(self, call: Call, scope: Scope, node: ExecutionNode | None = None) -> None:
        """A call inside of one that may be tried again: the next attempt is served it, too."""
        if any(outer.options.retries for outer in scope.calls()):
            if node is None:
                node = call.node(self.execution_id, Status.RUNNING)
            if call.announced or node.status is not Status.RUNNING:
                self.tape.put(node)

    def _record_intent(self, call: Call) -> Work[None]:
        """Record that the tool is about to be called: a successor then has to assume that it may
        have been."""
        call.announced = True
        yield from self.owner.record_intent(call.node(self.execution_id, Status.RUNNING))

    def _try_again(self, call: Call, error: Exception, latency_ms: float) -> Work[bool]:
        options = call.options
        if len(call.attempts) >= options.retries or not options.retryable(error):
            return False
        call.attempts.append([type(error).__qualname__, shown(error), round(latency_ms, 3)])
        yield from self.owner.check()
        pause_s = options.backoff_s * 2 ** (len(call.attempts) - 1)
        if pause_s:
            yield from do(Wait(min(pause_s, _LONGEST_PAUSE_S)))
            yield from self.owner.check()  # another process may have taken over in the pause
        return True

    def _record_success(self, call: Call, output: Any, latency_ms: float) -> Work[ExecutionNode]:
        node = call.node(self.execution_id, Status.SUCCESS)
        node.output = output
        node.latency_ms, node.completed_at = latency_ms, time.time()
        yield from self.owner.check()
        try:
            yield from do(Save(node))
        except (InvalidNodeError, StateTooLargeError) as error:
            failure = _result_error(call, output, error)
            failure.__cause__ = error
            if not call.options.idempotent:  # else the corrected program makes it again
                failure.add_note("On resume a resolver can say what the call should have returned.")
                yield from self._record_failure(call, failure, latency_ms)
            raise failure from error
        return node

    def _record_failure(
        self, call: Call, error: Exception, latency_ms: float
    ) -> Work[ExecutionNode]:
        node = call.node(self.execution_id, Status.FAILED)
        node.error, raised = describe(error, retryable=call.options.idempotent)
        node.metadata[RAISED] = raised
        node.latency_ms, node.completed_at = latency_ms, time.time()
        yield from self.owner.check()
        yield from save_failed(node)
        return node


def _result_error(
    call: Call, output: Any, error: InvalidNodeError | StateTooLargeError
) -> ResultEncodingError:
    """The error for a result that cannot be recorded: which call's, of which type, and what to
    return instead."""
    why = str(error)
    try:
        size = len(serial.pack(output, "result", "return"))
    except StateEncodingError as found:
        why = str(found)
    else:
        if isinstance(error, StateTooLargeError):
            why = (f"it has {size} bytes, more than max_state_bytes; raise the limit, or keep it "
                   "elsewhere and return where it is")  # fmt: skip
    kind = f"{type(output).__module__}.{type(output).__qualname__}"
    return ResultEncodingError(
        f"the result of {call.name!r} ({kind}), call {call.path}, cannot be recorded: {why}. "
        "The call was made."
    )


def raise_recorded(node: ExecutionNode) -> NoReturn:
    """Raise what a failed node recorded."""
    error = rebuild(node)
    if isinstance(error, StopIteration):
        raise Stopped(error)
    raise_again(error)
