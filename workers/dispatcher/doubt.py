"""Doubt: a process has found the store damaged, and nothing is written before a writer has found it
sound.

An examination reads the whole database, so they come less and less often. The doubt ends if

* the store is sound;
* the writer is of an earlier livingai, which cannot examine it;
* something else than damage is wrong (a newer schema, another database): the next batch says so;
* it fails a few times in a row in a way that nobody has thought of. The log says so. To write
  nothing for ever would be worse: a read that finds damage begins the doubt anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from livingai.errors import (
    LivingAIError,
    ServiceUnavailableError,
    StoreDamagedError,
    StoreError,
    StoreUnavailableError,
)
from livingai.workers.dispatcher.ports import BatchPort
from livingai.workers.dispatcher.store_link import Backoff

_log = logging.getLogger("livingai.service")
#: Seconds between the second and third examination, and at most between two.
_FIRST_S: Final = 1.0
_LAST_S: Final = 120.0
#: So many examinations fail in an unknown way before the doubt ends.
_TRIES: Final = 3
#: What is waited for, as long as it takes.
_LASTING: Final = (StoreDamagedError, StoreUnavailableError, ServiceUnavailableError)
#: What a worker of an earlier livingai answers (``workers/store/role.py``).
_UNKNOWN: Final = "does not know the request"


class Doubt:
    """The doubt of one writer: there is none until :meth:`begin`."""

    def __init__(
        self,
        port: BatchPort,
        examine: Callable[[], Awaitable[Any]],
        note: Callable[[LivingAIError | None, int], None],
    ) -> None:
        """``examine`` has the writer look; ``note`` is told what was found, None when it is over,
        and when the look began (CLOCK_MONOTONIC, ns)."""
        self._port = port
        self._examine = examine
        self._note = note
        self._backoff = Backoff(_FIRST_S, _LAST_S)
        self._task: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        #: When the examination under way began (CLOCK_MONOTONIC); 0 while there is none.
        self._since = 0.0
        #: What is wrong with the store; None: there is no doubt.
        self.error: LivingAIError | None = None

    def begin(self, error: LivingAIError) -> None:
        """Doubt the store, unless that is so already."""
        if self._task is None and not self._closed.is_set():
            self._say(error)
            self._backoff.reset()
            self._task = asyncio.create_task(self._until_sound())

    def refuse(self) -> None:
        """Raise the error that is the reason for the doubt, if there is any."""
        if self.error is not None:
            raise type(self.error)(str(self.error))

    def check(self, silent_s: float) -> None:
        """Report an examination that has taken longer than ``silent_s``, once."""
        if self.error is not None and self._since and time.monotonic() - self._since > silent_s:
            self._since = 0.0
            self._say(
                type(self.error)(
                    f"{self.error} (whether it still is so is being examined, for more than "
                    f"{silent_s:.0f} s by now)"
                )
            )

    def _say(self, error: LivingAIError, began_ns: int = 0) -> None:
        self.error = error
        self._note(error, began_ns)

    async def _until_sound(self) -> None:
        failed = 0
        try:
            while not self._closed.is_set():
                began_ns = time.monotonic_ns()
                self._since = time.monotonic()
                try:
                    await self._examine()
                    return
                except _LASTING as error:
                    failed = 0
                    self._say(error, began_ns)
                except LivingAIError as error:
                    failed += 1
                    if isinstance(error, StoreError) or _UNKNOWN in str(error) or failed == _TRIES:
                        _log.warning(
                            "the store was found damaged, and the writer cannot say whether it "
                            "still is; it is written to again: %s", error,
                        )  # fmt: skip
                        return
                    _log.warning("examining the store failed, trying again: %s", error)
                    self._say(error, began_ns)
                finally:
                    self._since = 0.0
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), self._backoff.next_s())
        except Exception as error:  # nothing would be written any more, and nobody told why
            self._port.fail(error)
            raise
        finally:
            self._task = self.error = None
            if not self._closed.is_set():
                self._note(None, 0)
            self._port.kick()

    def close(self) -> asyncio.Task[None] | None:
        """Examine no more; what is still under way."""
        self._closed.set()
        return self._task
