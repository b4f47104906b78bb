"""Effects: the logic of runs is written once and carried out with or without an event loop.

That logic consists of generators. Each yields an effect (save this node, call that function);
:func:`drive` or :func:`drive_sync` performs it and sends its value into the generator, or throws
the exception that it ended with.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from livingai.errors import StateTooLargeError
from livingai.node import ExecutionNode
from livingai.outcome import Durability, Receipt
from livingai.protocol.history import History
from livingai.protocol.sections import Cached
from livingai.runs.failures import raise_again, shorten
from livingai.runs.ports import RunEngine

T = TypeVar("T")


class Effect(ABC, Generic[T]):
    """One operation that the logic of a run needs; ``T`` is the type of its value."""

    __slots__ = ()

    @property
    def begins_work(self) -> bool:
        """Whether this starts work of the program, and does not only record what it did."""
        return False

    @abstractmethod
    async def perform(self, engine: RunEngine) -> T:
        """Perform it in an event loop; returns its value."""

    @abstractmethod
    def perform_sync(self, engine: RunEngine) -> T:
        """Perform it without an event loop; returns its value."""


class Stopped(Exception):
    """Carries a StopIteration that a call raised: a generator cannot let one through."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


#: A generator of effects that returns a value of the parameter's type.
Work = Generator[Effect[Any], Any, T]


def do(effect: Effect[T]) -> Work[T]:
    """``yield from do(effect)`` is ``yield effect``, with the type of the effect's answer.

    Not for :class:`~livingai.runs.invoking.Invoke`, which may end with a StopIteration of the
    program's: thrown into this generator, Python would turn it into a RuntimeError.
    """
    answer: T = yield effect
    return answer


async def drive(engine: RunEngine, work: Work[T]) -> T:
    """Perform the effects of ``work`` in an event loop; returns the value of ``work``.

    An effect that cannot be stopped when the program is cancelled (a plain function in a thread) is
    waited for and marked ``interrupted``. Its outcome is still recorded, no other work is started,
    and then CancelledError is raised.
    """
    step: Callable[[Any], Effect[Any]] = work.send
    value: Any = None
    interrupted: asyncio.CancelledError | None = None
    while True:
        try:
            effect = step(value)
        except StopIteration as end:
            if interrupted is not None:
                raise interrupted from None
            return end.value  # type: ignore[no-any-return]
        except Exception as error:
            if interrupted is not None:
                raise interrupted from error
            if isinstance(error, Stopped):
                raise_again(error.error)
            raise
        try:
            if interrupted is not None and effect.begins_work:
                raise interrupted
            value = await effect.perform(engine)
            step = work.send
        except BaseException as error:
            value, step = error, work.throw
        interrupted = interrupted or getattr(effect, "interrupted", None)


def drive_sync(engine: RunEngine, work: Work[T]) -> T:
    """Twin of :func:`drive`."""
    step: Callable[[Any], Effect[Any]] = work.send
    value: Any = None
    while True:
        try:
            effect = step(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        except Stopped as stopped:
            raise_again(stopped.error)
        try:
            value = effect.perform_sync(engine)
            step = work.send
        except BaseException as error:
            value, step = error, work.throw


@dataclass(slots=True)
class Save(Effect[Receipt]):
    """Record a node; the value is its receipt."""

    node: ExecutionNode
    durability: Durability | None = None
    state: Any = None

    async def perform(self, engine: RunEngine) -> Receipt:
        return await engine.save(self.node, self.state, durability=self.durability)

    def perform_sync(self, engine: RunEngine) -> Receipt:
        return engine.save_sync(self.node, self.state, durability=self.durability)


@dataclass(slots=True)
class Claim(Effect[int]):
    """Ask the store for the epoch of a claim; FencedError if it is not the newest."""

    execution_id: str
    token: str

    async def perform(self, engine: RunEngine) -> int:
        return await engine.confirm_claim(self.execution_id, self.token)

    def perform_sync(self, engine: RunEngine) -> int:
        return engine.confirm_claim_sync(self.execution_id, self.token)


@dataclass(slots=True)
class ReadHistory(Effect[History]):
    """Read what is recorded; the value is a :class:`~livingai.protocol.history.History`."""

    execution_id: str
    known: Cached | None = None
    behind_checkpoint: bool = False

    async def perform(self, engine: RunEngine) -> History:
        return await engine.history(
            self.execution_id, behind_checkpoint=self.behind_checkpoint, known=self.known
        )

    def perform_sync(self, engine: RunEngine) -> History:
        return engine.history_sync(
            self.execution_id, behind_checkpoint=self.behind_checkpoint, known=self.known
        )


@dataclass(slots=True)
class ReadNodes(Effect[list[ExecutionNode]]):
    """Read all nodes of an execution, in the order of their first save."""

    execution_id: str

    async def perform(self, engine: RunEngine) -> list[ExecutionNode]:
        return await engine.nodes(self.execution_id)

    def perform_sync(self, engine: RunEngine) -> list[ExecutionNode]:
        return engine.nodes_sync(self.execution_id)


@dataclass(slots=True)
class ReadLatest(Effect[tuple[ExecutionNode, Any]]):
    """Read the newest checkpoint of an execution: its node and its state."""

    execution_id: str

    async def perform(self, engine: RunEngine) -> tuple[ExecutionNode, Any]:
        return await engine.latest(self.execution_id)

    def perform_sync(self, engine: RunEngine) -> tuple[ExecutionNode, Any]:
        return engine.latest_sync(self.execution_id)


@dataclass(slots=True)
class ReadState(Effect[Any]):
    """Read the newest state that a node was saved with; None if it was saved without one."""

    node_id: str

    async def perform(self, engine: RunEngine) -> Any:
        return (await engine.load(self.node_id))[1]

    def perform_sync(self, engine: RunEngine) -> Any:
        return engine.load_sync(self.node_id)[1]


@dataclass(slots=True)
class Compute(Effect[T]):
    """Call a function of livingai's own that takes long: in a thread where there is an event loop.

    It must not raise StopIteration.
    """

    function: Callable[[], T]

    async def perform(self, engine: RunEngine) -> T:
        return await asyncio.to_thread(self.function)

    def perform_sync(self, engine: RunEngine) -> T:
        return self.function()


@dataclass(slots=True)
class Wait(Effect[None]):
    """Wait between two attempts."""

    seconds: float

    @property
    def begins_work(self) -> bool:
        """Another attempt follows."""
        return True

    async def perform(self, engine: RunEngine) -> None:
        await asyncio.sleep(self.seconds)

    def perform_sync(self, engine: RunEngine) -> None:
        time.sleep(self.seconds)  # a synchronous program has asked to wait, and nothing ends that


def save_failed(node: ExecutionNode) -> Work[None]:
    """Record a failed node; its error is cut down if it is too large."""
    with suppress(StateTooLargeError):
        yield from do(Save(node))
        return
    shorten(node)
    yield from do(Save(node))
