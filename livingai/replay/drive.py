"""Doing what the script of a graph replay asks for: calls of the handler, and saves."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, LivingAIError
from livingai.outcome import Durability
from livingai.replay.script import Answer, Call, Save, Script


async def drive(engine: CheckpointEngine, script: Script, handler: Callable[[Call], Any]) -> None:
    """Run a script to its end. Raises what a save raises and the script does not handle."""
    answer: Any = None
    failure: LivingAIError | None = None
    while True:
        try:
            step = script.send(answer) if failure is None else script.throw(failure)
        except StopIteration:
            return
        answer = failure = None
        if isinstance(step, Call):
            answer = await _called(handler, step)
            continue
        try:
            await engine.save(step.node, step.state, durability=_level(step))
        except LivingAIError as error:
            failure = error


def drive_sync(engine: CheckpointEngine, script: Script, handler: Callable[[Call], Any]) -> None:
    """Twin of :func:`drive`."""
    answer: Any = None
    failure: LivingAIError | None = None
    while True:
        try:
            step = script.send(answer) if failure is None else script.throw(failure)
        except StopIteration:
            return
        answer = failure = None
        if isinstance(step, Call):
            answer = _called_sync(handler, step)
            continue
        try:
            engine.save_sync(step.node, step.state, durability=_level(step))
        except LivingAIError as error:
            failure = error


async def _called(handler: Callable[[Call], Any], call: Call) -> Answer:
    began = time.perf_counter()
    try:
        output = handler(call)
        if isinstance(output, Awaitable):
            output = await output
    except Exception as error:
        return Answer(error=error, latency_ms=_since(began))
    return Answer(output, latency_ms=_since(began))


def _called_sync(handler: Callable[[Call], Any], call: Call) -> Answer:
    began = time.perf_counter()
    try:
        output = handler(call)
    except Exception as error:
        return Answer(error=error, latency_ms=_since(began))
    if inspect.iscoroutine(output):
        output.close()
        raise ConfigurationError("the handler is a coroutine function: use `await run(...)`")
    return Answer(output, latency_ms=_since(began))


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3


def _level(save: Save) -> Durability | None:
    return Durability.FSYNC if save.intent else None
