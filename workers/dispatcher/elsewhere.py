"""Records that wait for the same store in other state directories of this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from livingai.errors import LivingAIError

_log = logging.getLogger("livingai.service")
#: Seconds between two looks at other state directories.
_EVERY_S: Final = 2.0


class Elsewhere:
    """Asks a writer what waits in other directories, for as long as anything does."""

    def __init__(self, ask: Callable[[str], Awaitable[Any]], changed: Callable[[], None]) -> None:
        """``ask`` sends a verb to a writer; ``changed`` is called when :attr:`trouble` has."""
        self._ask = ask
        self._changed = changed
        #: What waits in other directories, as a sentence; "" if nothing does.
        self.trouble = ""

    async def watch(self) -> None:
        """Look until nothing waits elsewhere any more."""
        while True:
            try:
                found = str(await self._ask("elsewhere"))
            except LivingAIError:
                found = self.trouble  # the writer's own trouble says why
            if found != self.trouble:
                self.trouble = found
                if found:
                    _log.warning("%s", found)
                self._changed()
            if not found:
                return
            await asyncio.sleep(_EVERY_S)
