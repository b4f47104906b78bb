"""Journals that cannot be read for now: since when, why, and when to try again."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from livingai.errors import JournalError

_log = logging.getLogger("livingai.service")
#: Seconds after which a journal that could not be read is tried again.
_RETRY_S = 1.0
#: Seconds that a reader waits for such a journal before it gets an error.
_PATIENCE_S = 5.0


@dataclass(slots=True)
class _Journal:
    reason: str
    since: float
    #: The last attempt.
    tried_at: float
    again_at: float


class Unreadable:
    """The journals that cannot be read now, each with the reason and the time of the next attempt.
    True while there is one."""

    def __init__(self) -> None:
        self._journals: dict[str, _Journal] = {}

    def __bool__(self) -> bool:
        return bool(self._journals)

    def paths(self) -> list[str]:
        """Their folders."""
        return list(self._journals)

    def note(self, path: str, error: Exception) -> None:
        """A journal cannot be read now."""
        now = time.monotonic()
        known = self._journals.get(path)
        if known is None:
            _log.error("%s cannot be read, trying again: %s", path, error)
            known = self._journals[path] = _Journal("", now, now, now)
        known.reason = str(error)
        known.tried_at = now
        known.again_at = now + _RETRY_S

    def forget(self, path: str) -> None:
        """It can be read again, or is gone."""
        if self._journals.pop(path, None) is not None:
            _log.info("%s can be read again, or is gone", path)

    def keep(self, paths: set[str]) -> None:
        """All others are gone."""
        for path in self._journals.keys() - paths:
            self.forget(path)

    def due(self, path: str) -> bool:
        """Whether to try: the journal can be read as far as is known, or its pause is over."""
        known = self._journals.get(path)
        return known is None or time.monotonic() >= known.again_at

    def try_now(self) -> None:
        """A reader waits for them: try each again now."""
        for journal in self._journals.values():
            journal.again_at = 0.0

    @property
    def trouble(self) -> str:
        """A message for the agents; "" if all journals can be read."""
        for path, journal in self._journals.items():
            return (
                f"{path} cannot be read ({journal.reason}): the writes in it wait, and so do those "
                "of processes that may follow their owners. Nothing is lost; mend what is named"
            )
        return ""

    def error(self, waits_since_ns: int) -> JournalError | None:
        """The error for a reader that waits since then (CLOCK_MONOTONIC): one of them could not be
        read for long enough, nor when it was tried for this reader. None: it goes on waiting."""
        now = time.monotonic()
        for journal in self._journals.values():
            tried = journal.tried_at * 1e9 >= waits_since_ns
            if tried and now - journal.since > _PATIENCE_S:
                return JournalError(self.trouble)
        return None
