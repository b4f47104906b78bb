"""Deaths of one of the service's processes, counted, with what is known of the reason."""

from __future__ import annotations

import signal
from typing import Final

#: So many deaths in a row make trouble that is reported to agents.
TOLD_AFTER: Final = 3
#: A reason is cut to this many characters.
_LONGEST_REASON: Final = 300


def how_it_ended(code: int, last_words: str = "") -> str:
    """The reason of a death: what the process said last, else its exit status or signal."""
    said = " ".join(last_words.split())[:_LONGEST_REASON]
    if said:
        return said
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit status {code}"


class Deaths:
    """Counts the deaths of one process in a row: between them it has done no work."""

    def __init__(self, who: str) -> None:
        self._who = who
        self.count = 0
        self._same = 0
        self._reason = ""

    def died(self, reason: str) -> None:
        """It has died once more."""
        self.count += 1
        self._same = self._same + 1 if reason == self._reason else 1
        self._reason = reason

    def works(self) -> None:
        """It has done its work: its deaths before that no longer count."""
        self.count = self._same = 0
        self._reason = ""

    @property
    def trouble(self) -> str:
        """A message for the agents; "" until it has died three times in a row."""
        if self.count < TOLD_AFTER:
            return ""
        again = "each time" if self._same == self.count else "the last time"
        return f"the {self._who} has died {self.count} times in a row, {again}: {self._reason}"
