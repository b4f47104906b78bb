"""Outcomes as a watcher of the service sees them (``livingai tail``): those of all agents, asked
for page by page with :data:`~livingai.protocol.verbs.WATCH`.

Rules:

1. A question names the number behind which outcomes are wanted; -1: those from now on. It is
   answered as soon as there are any, or with an empty page after the seconds that it may wait.
2. The service keeps the newest :data:`KEPT` outcomes for watchers, and only from the first question
   on until :data:`FORGET_S` seconds after the last one. A watcher that is slower than the agents is
   told how many it has missed; nothing waits for it.
3. Numbers begin anew with each dispatcher, whose :attr:`WatchedPage.life` is another one. A watcher
   that sees another life begins at -1.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: Outcomes that the service keeps for watchers, and how many of them an answer has at most.
KEPT: Final = 4096
PAGE: Final = 512
#: Seconds after the last question until the service stops keeping them.
FORGET_S: Final = 15.0
#: Seconds that a question may wait.
MAX_WAIT_S: Final = 10.0
#: Characters of a reason that are kept.
REASON_CHARS: Final = 300


class WatchedOutcome(NamedTuple):
    """The outcome of one save. Ids, type and status are "" where the record cannot be read any
    more."""

    #: When it was known, in seconds since the Unix epoch.
    at: float
    execution_id: str
    node_id: str
    #: The node's type and status.
    type: str
    status: str
    #: As :class:`~livingai.outcome.OutcomeStatus` and :class:`~livingai.outcome.Durability`, by
    #: name.
    outcome: str
    level: str
    latency_ms: float
    #: Bytes of the record in the journal.
    record_bytes: int
    reason: str


class WatchedPage(NamedTuple):
    """What a watcher gets."""

    #: Which dispatcher answers.
    life: str
    #: The number to ask with next.
    number: int
    #: Outcomes that came since the last question and are not kept any more.
    missed: int
    outcomes: list[WatchedOutcome]


def page_to_wire(page: WatchedPage) -> list[Any]:
    """The page as plain values."""
    return [page.life, page.number, page.missed, [list(each) for each in page.outcomes]]


def page_from_wire(answer: Any) -> WatchedPage:
    """The page that :func:`page_to_wire` gave. What a newer service adds at the end of a line is
    ignored.

    Raises:
        TypeError, ValueError: it is none.
    """
    life, number, missed, lines = answer
    if type(life) is not str or type(number) is not int or type(missed) is not int:
        raise TypeError("it does not begin with a life and two numbers")
    if not isinstance(lines, list):
        raise TypeError(f"{type(lines).__name__} is no list of outcomes")
    return WatchedPage(life, number, missed, [_outcome(line) for line in lines])


def _outcome(line: Any) -> WatchedOutcome:
    found = WatchedOutcome(*line[: len(WatchedOutcome._fields)])
    texts = (*found[1:7], found.reason)
    if not all(type(text) is str for text in texts):
        raise TypeError("an outcome has something else for a text")
    return found._replace(
        at=float(found.at), latency_ms=float(found.latency_ms), record_bytes=int(found.record_bytes)
    )
