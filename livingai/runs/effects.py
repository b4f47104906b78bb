"""What a run wants done, apart from how: the logic of a run is written once, as generators that
yield effects, and driven by an event loop or without one.

The generator is sent the effect's value, or the exception that it ended with.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from livingai.engine.cache import Cached
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode
from livingai.outcome import Durability
from livingai.runs.failures import raise_again

T = TypeVar("T")


class Effect(ABC):
    """Something to be done; see the module's text."""

    __slots__ = ()

    @property
    def begins_work(self) -> bool:
        """Whether this is work of the program, rather than the recording of what it did."""
        return False

    @abstractmethod
    async def perform(self, engine: CheckpointEngine) -> Any:
        """Do it in an event loop."""

    @abstractmethod
    def perform_sync(self, engine: CheckpointEngine) -> Any:
        """Do it without one."""


class Stopped(Exception):
    """Carries a StopIteration that a call raised: a generator cannot let one through."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


#: The logic of a run; its value is of the parameter's type.
Work = Generator[Effect, Any, T]


async def drive(engine: CheckpointEngine, work: Work[T]) -> T:
    """Do what ``work`` wants, in an event loop; its value.

    An effect that could not be stopped when the program was cancelled has been ``interrupted``.
    What came of it is still recorded, nothing else is begun, and then the cancellation goes on.
    """
    step: Callable[[Any], Effect] = work.send
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


def drive_sync(engine: CheckpointEngine, work: Work[T]) -> T:
    """Twin of :func:`drive`."""
    step: Callable[[Any], Effect] = work.send
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
class Save(Effect):
    """Record a node; the value is its receipt."""

    node: ExecutionNode
    durability: Durability | None = None
    state: Any = None

    async def perform(self, engine: CheckpointEngine) -> Any:
        return await engine.save(self.node, self.state, durability=self.durability)

    def perform_sync(self, engine: CheckpointEngine) -> Any:
        return engine.save_sync(self.node, self.state, durability=self.durability)


@dataclass(slots=True)
class Claim(Effect):
    """Ask the store for the epoch of a claim; FencedError if it is not the newest."""

    execution_id: str
    token: str

    async def perform(self, engine: CheckpointEngine) -> int:
        return await engine.confirm_claim(self.execution_id, self.token)

    def perform_sync(self, engine: CheckpointEngine) -> int:
        return engine.confirm_claim_sync(self.execution_id, self.token)


@dataclass(slots=True)
class ReadHistory(Effect):
    """Read what is recorded; the value is a :class:`~livingai.protocol.history.History`."""

    execution_id: str
    known: Cached | None = None
    behind_checkpoint: bool = False

    async def perform(self, engine: CheckpointEngine) -> Any:
        return await engine.history(
            self.execution_id, behind_checkpoint=self.behind_checkpoint, known=self.known
        )

    def perform_sync(self, engine: CheckpointEngine) -> Any:
        return engine.history_sync(
            self.execution_id, behind_checkpoint=self.behind_checkpoint, known=self.known
        )


@dataclass(slots=True)
class Pause(Effect):
    """Wait between two attempts."""

    seconds: float

    @property
    def begins_work(self) -> bool:
        """It comes before another attempt."""
        return True

    async def perform(self, engine: CheckpointEngine) -> None:
        await asyncio.sleep(self.seconds)

    def perform_sync(self, engine: CheckpointEngine) -> None:
        # Nothing happens that could end the pause early: the program is in this very call.
        time.sleep(self.seconds)  # a synchronous program has asked to wait, and nothing ends that
