"""What the parts of a dispatcher need of each other, so that none of them knows the dispatcher.

The dispatcher implements these and hands itself (or one of its other parts) over. Everything is
called in the event loop of the dispatcher's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from livingai.protocol.status import ServiceStatus
from livingai.protocol.watched import WatchedPage
from livingai.workers.dispatcher.feed import Feed, Item

if TYPE_CHECKING:
    from livingai.errors import LivingAIError

#: A record whose row the store has decided: outcome code, time of the commit (CLOCK_MONOTONIC, ns),
#: reason ("" if there is nothing to say).
Decided = tuple[Item, int, int, str]


class TurnPort(Protocol):
    """The dispatcher's main loop."""

    def kick(self) -> None:
        """Something may have changed: take another turn."""


class BatchPort(TurnPort, Protocol):
    """What a batch writer reports."""

    def sent(self, items: list[Item]) -> None:
        """These records are part of a batch that goes to the store now."""

    def store_answered(self, batch: list[Decided]) -> None:
        """The store has decided these rows."""

    def set_aside(self, item: Item, reason: str) -> None:
        """The store refuses this record for good: quarantine it."""

    def encode_again(self, items: list[Item]) -> None:
        """The store lacks the bases of these records: encode them without."""

    def encode_elsewhere(self, items: list[Item]) -> None:
        """Encoding these records would hold up the writer: give them to the compressors, and what
        is like them in their lanes."""

    def tell_trouble(self) -> None:
        """The writer's ``trouble`` has changed."""

    def fail(self, error: BaseException) -> None:
        """Something unexpected happened: end the process, its supervisor starts another one."""


class OutcomePort(TurnPort, Protocol):
    """What happens behind an outcome."""

    def settled(self, item: Item, *, stored: bool) -> None:
        """The record's outcome word is written."""


class OwnerPort(Protocol):
    """The way to the process that owns a journal, if it is connected."""

    def tell(self, feed: Feed, outcomes: list[tuple[int, int]], reasons: dict[int, str]) -> None:
        """Send it (lsn, outcome word) pairs, and reasons by lsn."""

    def tell_lost(self, feed: Feed) -> None:
        """Send it the ranges of its records that are damaged and will have no outcome."""


class BarrierPort(TurnPort, Protocol):
    """What a barrier looks at."""

    def misplaced(self, since_ns: int) -> LivingAIError | None:
        """Why nothing will be stored before a person acts, as it was found out after this time
        (CLOCK_MONOTONIC); None in normal times."""

    def has_older(self, key: int, since_ns: int) -> bool:
        """Whether records of the execution with hash ``key`` that were accepted by ``since_ns``
        (CLOCK_MONOTONIC) have no outcome yet."""


class RequestPort(TurnPort, Protocol):
    """What requests of agents need besides the reader and the housekeeper."""

    async def passed(self, key: int | None) -> None:
        """Wait for a barrier; see :meth:`.barriers.Barriers.passed`."""

    async def until_ready(self) -> None:
        """Wait until the service is up."""

    def doubt(self, error: LivingAIError) -> None:
        """The store was found damaged: have it examined before anything is written."""

    def refuse_in_doubt(self) -> None:
        """Raise why nothing may be written to the store, while it is examined."""

    async def ask_writer(self, key: int, verb: str, *arguments: Any) -> Any:
        """Ask the writer of the execution with hash ``key``."""

    def status(self) -> ServiceStatus:
        """What the service is doing now."""

    async def watched(self, number: int, wait_s: float) -> WatchedPage:
        """Outcomes behind ``number``; see :meth:`.watch.Watch.after`."""


class ServerPort(TurnPort, Protocol):
    """What the socket's server needs."""

    def appended(self) -> None:
        """An agent has appended something, and says so."""

    @property
    def store_url(self) -> str:
        """The store's URL, without credentials."""

    @property
    def trouble(self) -> str:
        """Why writes are not stored now; "" in normal times."""

    async def answer(self, agent: Any, number: int, verb: str, arguments: list[Any]) -> None:
        """Do what an agent asks and send it the answer."""

    def owner_gone(self, feed: Feed) -> None:
        """A journal's owner has disconnected."""


class EndingPort(Protocol):
    """What decides whether an idle service may end."""

    @property
    def has_agents(self) -> bool:
        """Whether a process is connected."""

    @property
    def inflight(self) -> int:
        """Records between intake and outcome."""

    def look_around(self, *, now: bool = False) -> None:
        """Look for new journals, ``now`` for dead owners too."""
