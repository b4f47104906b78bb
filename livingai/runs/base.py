"""What :class:`Run` and :class:`SyncRun` share: entering and leaving, places of calls,
checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from livingai import serial
from livingai.errors import (
    DivergenceError,
    InvalidNodeError,
    NotAwaitedError,
    RunError,
    StateEncodingError,
)
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Receipt
from livingai.runs.calls import CALL, CHECKPOINT, ROLE, Call, CallOptions, Input, node_id
from livingai.runs.effects import ReadHistory, Save, Work, do, drive
from livingai.runs.life import Life
from livingai.runs.ownership import Ownership
from livingai.runs.pending import PendingCall, PendingCalls, check_awaited
from livingai.runs.policy import ResumePolicy, RunSettings
from livingai.runs.ports import RunEngine
from livingai.runs.recorded_function import recorded_function
from livingai.runs.recorder import Recorder
from livingai.runs.scopes import Scope, current_scope, enter, leave, task_or_thread
from livingai.runs.tape import Tape, warn_of_other_state

_STEP = CallOptions()
_TOOL = CallOptions(idempotent=False)


class BaseRun:
    """What :class:`Run` and :class:`SyncRun` share."""

    def __init__(self, engine: RunEngine, execution_id: str, settings: RunSettings) -> None:
        settings.validate()
        if not isinstance(execution_id, str) or not execution_id:
            raise InvalidNodeError(f"a run's id must be a non-empty string, not {execution_id!r}")
        self.engine = engine
        #: The execution's id.
        self.id = execution_id
        self._state: Any = None
        #: The state of the newest checkpoint when the run was entered; None without one.
        self.restored_state: Any = None
        self._restored_from: str | None = None
        #: Whether something was recorded before.
        self.resumed = False
        self.closed = True
        self._settings = settings
        self._owner = Ownership(engine, execution_id, exclusive=settings.exclusive)
        self._recorder = Recorder(
            execution_id, self._owner, settings.policy or ResumePolicy(settings.retry_failed),
            settings.resolver,
        )  # fmt: skip
        self._root = Scope(self, "", None)
        self._life = Life(execution_id, self._owner, settings.metadata)
        #: Paths of the calls that this process has made in tasks and named scopes.
        self._reached: set[str] = set()
        self._lock = threading.Lock()
        self._pending = PendingCalls(execution_id)
        self._token: Any = None
        #: The scope in which the run was entered; None outside of any other run.
        self.around: Scope | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} epoch {self.epoch}>"

    @property
    def epoch(self) -> int:
        """The fencing token of this life of the run."""
        return self._owner.epoch

    @property
    def tape(self) -> Tape:
        """What was recorded before this life of the run."""
        return self._recorder.tape

    @property
    def in_doubt(self) -> list[ExecutionNode]:
        """Tools that were under way when the run was interrupted."""
        return self.tape.in_doubt()

    @property
    def state(self) -> Any:
        """The program's own state; :meth:`checkpoint` records it. None until the program sets it,
        also when it is resumed: it runs from its beginning, and makes its state again."""
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state = state
        self._life.active = True

    # -- entering and leaving --

    def _begin(self) -> Work[None]:
        if not self.closed or self._owner.epoch:
            raise RunError(f"run {self.id!r} was entered before; ask the engine for a new one")
        known = self.engine.cached(self.id)
        yield from self._life.enter()
        history = yield from do(ReadHistory(self.id, known))
        nodes = [found.node for found in history.nodes]
        tape = self._settings.tape
        self._recorder.tape = Tape(self.id, nodes) if tape is None else tape
        self.resumed = any(node.id != self._life.node.id for node in nodes)
        self.restored_state = history.state
        self._restored_from = None if history.checkpoint is None else history.checkpoint[0]
        if self._settings.resume == "checkpoint" and history.checkpoint is not None:
            at = next(n for n, node in enumerate(nodes) if node.id == history.checkpoint[0])
            self._go_to(nodes[at], history.state)
            self._reached.update(str(node.metadata.get(CALL)) for node in nodes[:at])
        yield from self._life.follow(nodes)
        self._recorder.life = self._life
        self.closed = False

    def _go_to(self, checkpoint: ExecutionNode, state: Any) -> None:
        """Begin behind a checkpoint, as if everything before it had just been done."""
        path = checkpoint.metadata.get(CALL)
        if not isinstance(path, str) or not path.isdecimal():
            raise RunError(
                f"the newest state of run {self.id!r} was not recorded by the program itself but "
                'inside of a call or task, or by engine.save(); resume it with resume="start"'
            )
        self._root.position = int(path) + 1
        self._root.tasks = int(checkpoint.metadata.get("tasks", 0))
        self._root.names = dict(checkpoint.metadata.get("names", {}))
        self._state = state

    def _open(self) -> None:
        self.around = current_scope()
        self._root.belongs_to = task_or_thread()
        self._token = enter(self._root)

    def _end(self, error: BaseException | None) -> Work[None]:
        """Record how this life ended (:mod:`livingai.runs.life`).

        Raises:
            DivergenceError: the program has ended without a call that is recorded.
        """
        self.closed = True
        self._root.close()
        leave(self._token)
        if self._owner.forked:
            return  # the run is the parent's, which goes on
        # An error that ends the run does so even if the program has caught it.
        ended_by = error if error is not None else self._recorder.broken
        divergence = self._left_out() if ended_by is None else None
        yield from self._life.end(ended_by if divergence is None else divergence)
        if divergence is not None:
            raise divergence

    def _left_out(self) -> DivergenceError | None:
        """The error for a program that ended without making all recorded calls; None if it made
        them, or did nothing at all (it may only have read the state)."""
        if self._life.looked_in:
            return None
        left_out = self.tape.left_out(self._root.position, self._reached)
        if left_out is None:
            return None
        return DivergenceError(
            f"run {self.id!r}: the program ended without making the call "
            f"{left_out.metadata.get('name')!r} ({left_out.metadata[CALL]}) that is recorded. "
            "Resume a run with the program that began it; give a changed program an execution id "
            "of its own"
        )

    def _forgotten(self, error: BaseException | None) -> NotAwaitedError | None:
        """What to raise at the end if a call was not awaited. If the program ended with an error of
        its own, that error gets a note instead: the missing await may have caused it."""
        forgotten = self._pending.error()
        if forgotten is not None and isinstance(error, Exception):
            with suppress(AttributeError):  # its class may forbid that it is changed
                error.add_note(str(forgotten))
        return forgotten if error is None else None

    # -- calls --

    def awaited(self, name: str, work: Work[Any]) -> PendingCall[Any]:
        """A call that the program has to await; ``name`` is how the program has written the
        call."""
        return PendingCall(self._pending, name, drive(self.engine, work))

    def _scope(self) -> Scope:
        """The innermost scope of this run around the code that runs now."""
        scope = current_scope()
        while scope is not None and scope.run is not self:
            scope = scope.run.around
        return scope or self._root

    def _take_down(
        self, kind: NodeType, name: str, function: Callable[..., Any],
        args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions | None = None,
    ) -> tuple[Call, Scope]:  # fmt: skip
        """Describe a call at the moment at which it is made: its place and its arguments."""
        if self.closed:
            raise RunError(
                f"run {self.id!r} is not entered; make its calls inside of `with` or `async with`"
            )
        if self._owner.forked:
            raise self._owner.forked_error()
        check_awaited(name, (*args, *kwargs.values()))
        own = recorded_function(function)
        if own is not None:
            function, options = own.function, options or own.options
            if kind is NodeType.TOOL and own.kind is not NodeType.TOOL and options.idempotent:
                options = replace(options, idempotent=False)  # `run.tool` is what the program says
        if options is None:
            options = _TOOL if kind is NodeType.TOOL else _STEP
        options.validate()
        call_input = Input.capture(args, kwargs)
        with self._lock:
            scope = self._scope()
            scope.check(name)
            path = scope.next_path()
            self._life.active = True
            if scope is not self._root and scope.call is None:
                self._reached.add(path)
        parent = None if scope.call is None else node_id(self.id, scope.call.path)
        call = Call(kind, name, path, parent, call_input, function, args, kwargs, options)
        return call, scope

    def prepare(
        self, kind: NodeType, name: str, function: Callable[..., Any],
        args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions | None = None,
    ) -> Work[Any]:  # fmt: skip
        """The work of a call. The call's place in the program is fixed now, not when the work is
        done.

        Raises:
            RunError: the run is not entered, or this thread or task cannot make a recorded call.
            ConfigurationError: the call's options cannot work.
        """
        call, scope = self._take_down(kind, name, function, args, kwargs, options)
        return self._recorder.perform(call, scope)

    def _checkpoint(self) -> Work[Receipt | None]:
        """Record the state, unless a checkpoint at this place of the program is recorded
        already."""
        call, scope = self._take_down(NodeType.MEMORY, CHECKPOINT, _nothing, (), {})
        if self._recorder.broken is not None:
            raise self._recorder.broken
        recorded = self.tape.find(call)
        if recorded is not None:
            if recorded.id == self._restored_from and not self._settings.retry_failed:
                warn_of_other_state(recorded, self.restored_state, self.state)
            return None
        yield from self._owner.check()
        yield from self._life.go_on()
        node = call.node(self.id, Status.SUCCESS)
        node.input, node.completed_at = None, node.created_at
        node.metadata = {"name": CHECKPOINT, CALL: call.path, ROLE: CHECKPOINT}
        if scope.tasks:
            node.metadata["tasks"] = scope.tasks
        if scope.names:
            node.metadata["names"] = dict(scope.names)
        try:
            return (yield from do(Save(node, None, self.state)))
        except StateEncodingError:
            serial.pack(self.state, "run.state")  # says where in the program's own terms
            raise

    def record_cost(self, tokens: int) -> None:
        """Add ``tokens`` to the cost of the call that is under way; outside of any call, to this
        process's part of the run. :meth:`CheckpointEngine.costs` sums them. A served call costs
        nothing.

        Raises:
            ValueError: ``tokens`` is not a whole number of 0 or more.
        """
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
            raise ValueError(f"tokens must be a whole number of 0 or more, not {tokens!r}")
        scope = current_scope()
        if scope is not None and scope.run is self and scope.call is not None:
            scope.call.cost_tokens += tokens
        else:
            self._life.active = True
            self._life.node.cost_tokens += tokens

    @contextmanager
    def scope(self, name: str, *, across_tasks: bool = False) -> Generator[None]:
        """Calls inside are counted by themselves, under a name that is unique among the ones
        opened here: for threads, and for tasks whose first calls come in no fixed order.

        With ``across_tasks`` "here" is the program, or the call that is under way, whatever task
        opens the scope: for names that say by themselves which calls these are, in programs that
        may start their tasks in another way when they are resumed (a framework's next release).
        """
        with self._lock:
            outer = self._scope()
            if across_tasks:
                outer = outer.around_tasks()
            inner = outer.named(name)
        token = enter(inner)
        try:
            yield
        finally:
            leave(token)
            inner.close()


def _nothing() -> None:
    """What a checkpoint calls."""


def current_run() -> BaseRun | None:
    """The run that this code is part of; None outside of any run."""
    scope = current_scope()
    if scope is None or scope.run.closed:
        return None
    assert isinstance(scope.run, BaseRun)
    return scope.run
