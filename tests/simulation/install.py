"""What a simulation puts into the product: virtual time, points, and ids that can be repeated."""

from __future__ import annotations

import secrets
import sys
import time
from typing import Any

from livingai.failpoint import watch
from livingai.queue import new_journal
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.index import Index
from livingai.queue.lock import OwnerLock
from livingai.workers import encoding
from tests.simulation.scheduler import Clock, Scheduler

#: What processes share, beside what failpoints stand at: others may come in before each.
_SHARED = {
    Index: ("begin", "put", "put_node", "resume", "take", "forget", "get", "locate"),
    Control: ("publish",),
    CursorFile: ("write", "read"),
}
#: States of more bytes are left to the compressors, or copied.
_ALONE_BYTES = 1000


class _Random:
    """In the place of ``secrets``, for journal ids."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def randbits(self, count: int) -> int:
        """As ``secrets.randbits``."""
        return self._scheduler.chance.getrandbits(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(secrets, name)


def install(scheduler: Scheduler) -> None:
    """Have the product of this process run in a simulation, from now on and for good."""
    for name, module in list(sys.modules.items()):
        known = vars(module).get("time") if name.startswith("livingai") else None
        if known is time or isinstance(known, Clock):
            vars(module)["time"] = scheduler.clock
    vars(new_journal)["secrets"] = _Random(scheduler)
    vars(encoding)["ALONE_BYTES"] = _ALONE_BYTES
    watch(scheduler.failpoint)
    acquire = OwnerLock.acquire.__func__  # type: ignore[attr-defined]
    acquire = getattr(acquire, "healthy", acquire)
    OwnerLock.acquire = classmethod(_noted(scheduler, acquire))  # type: ignore[method-assign,assignment]
    for cls, names in _SHARED.items():
        for name in names:
            function = getattr(cls, name)
            healthy = getattr(function, "healthy", function)
            setattr(cls, name, _with_point(scheduler, f"{cls.__name__}.{name}", healthy))


def _with_point(scheduler: Scheduler, name: str, healthy: Any) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        scheduler.point(name)
        result = healthy(*arguments, **named)
        if name == "Control.publish":
            scheduler.published()
        return result

    vars(call)["healthy"] = healthy
    return call


def _noted(scheduler: Scheduler, acquire: Any) -> Any:
    def call(cls: type[OwnerLock], path: str) -> OwnerLock | None:
        lock: OwnerLock | None = acquire(cls, path)
        if lock is not None and scheduler.running is not None:
            scheduler.running.process.locks.append(lock)
        return lock

    vars(call)["healthy"] = acquire
    return call
