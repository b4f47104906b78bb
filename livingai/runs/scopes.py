"""Scopes: the places of a program in which its calls are counted.

Each scope counts its calls, so each call has a position. Rules:

1. The program has one scope, and so has each call that is under way.
2. A task that is started in a scope gets one of its own (``t0``, ``t1``, …) in the order of their
   creation (:mod:`livingai.runs.tasks`); so calls of the tasks of one ``gather`` get the same
   paths in every life, whichever task is faster.
3. A scope belongs to the task or thread that first makes a call in it. Threads have no order, so
   each has to say which scope it is in: ``with run.scope("name")``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol
from urllib.parse import quote

from livingai.errors import RunError
from livingai.runs.calls import Call


class ScopeOwner(Protocol):
    """The run that a scope belongs to (:class:`livingai.runs.base.BaseRun`)."""

    #: The execution's id.
    id: str
    #: Whether the run is not entered (yet, or any more).
    closed: bool
    #: The scope in which the run was entered; None outside of any other run.
    around: Scope | None


def task_or_thread() -> object:
    """The asyncio task that runs now; outside of a task, the id of the thread."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.get_ident()


class Scope:
    """A place where calls are counted; see the rules above."""

    __slots__ = (
        "belongs_to",
        "call",
        "closed",
        "names",
        "parent",
        "path",
        "position",
        "run",
        "tasks",
    )

    def __init__(
        self, run: ScopeOwner, path: str, parent: Scope | None, call: Call | None = None
    ) -> None:
        self.run = run
        #: What the paths of its calls begin with: "" or ends with a dot.
        self.path = path
        self.parent = parent
        #: The call whose function runs in this scope; None: the program itself.
        self.call: Call | None = call if call is not None else (parent.call if parent else None)
        #: The task or thread that makes the calls here; None before the first one.
        self.belongs_to: object = None
        self.position = 0
        #: Tasks that were started here.
        self.tasks = 0
        self.closed = False
        #: How often each name was used for a scope inside.
        self.names: dict[str, int] = {}

    def next_path(self) -> str:
        """The path of the next call."""
        path = f"{self.path}{self.position}"
        self.position += 1
        return path

    def task(self) -> Scope:
        """A scope for a task that is being started here."""
        number = self.tasks
        self.tasks += 1
        return Scope(self.run, f"{self.path}t{number}.", self)

    def named(self, name: str) -> Scope:
        """A new scope with a name of its own; used twice, the second is ``name#1``."""
        count = self.names.get(name, 0)
        self.names[name] = count + 1
        suffix = f"#{count}" if count else ""
        return Scope(self.run, f"{self.path}({quote(name, safe=' ')}){suffix}.", self)

    def around_tasks(self) -> Scope:
        """The scope of the call, or of the program, that this one is a task's or a named one of."""
        scope = self
        while scope.parent is not None and scope.parent.call is scope.call:
            scope = scope.parent
        return scope

    def calls(self) -> Iterator[Call]:
        """The calls that are under way around this place, the innermost first."""
        scope: Scope | None = self
        seen: Call | None = None
        while scope is not None:
            if scope.call is not None and scope.call is not seen:
                seen = scope.call
                yield seen
            scope = scope.parent

    def close(self) -> None:
        """Call when the scope's call has ended: no call can be made in the scope any more."""
        self.closed = True

    def check(self, name: str) -> None:
        """Raise RunError unless the call ``name`` can be made here, now."""
        here = task_or_thread()
        if self.belongs_to is None:
            self.belongs_to = here
        if self.belongs_to != here:
            raise RunError(
                f"run {self.run.id!r}: {name!r} is called in a thread or task whose calls the run "
                'cannot number; make them in a scope of their own: `with run.scope("name"):`'
            )
        scope: Scope | None = self
        while scope is not None:
            if scope.closed:
                what = f"call {scope.call.name!r}" if scope.call else f"run {self.run.id!r}"
                raise RunError(
                    f"the {what} has ended, but a task or thread that it started still makes "
                    "recorded calls; await it before the end"
                )
            scope = scope.parent


_current: ContextVar[Scope | None] = ContextVar("livingai_scope", default=None)


def enter(scope: Scope) -> Any:
    """Make ``scope`` the current one; pass what this returns to :func:`leave`."""
    return _current.set(scope)


def leave(token: Any) -> None:
    """Undo :func:`enter`."""
    try:
        _current.reset(token)
    except ValueError:  # entered in another context (an async generator's, a fixture's)
        _current.set(None)


def current_scope() -> Scope | None:
    """The innermost scope; None outside of any run."""
    return _current.get()
