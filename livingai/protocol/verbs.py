"""All that the service can be asked: one line for each verb.

A line says which queued writes have to be stored before the verb is answered, which process answers
it, and what its answer is. The function that answers is a method ``do_<name>`` of the class of that
process: ``ReaderRole``, ``HousekeeperRole`` and ``WriterRole`` in ``workers/store``, and
``Requests`` in ``workers/dispatcher`` for what the dispatcher answers itself. So a new question is
one line here and one function there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from livingai.errors import LivingAIError, ServiceError
from livingai.protocol.executions import executions_from_wire
from livingai.protocol.history import checked_message
from livingai.protocol.watched import WatchedPage, page_from_wire
from livingai.stores.records import CostLine, DroppedNodes, ExecutionInfo
from livingai.stores.retention import Dropped, Pruned

if TYPE_CHECKING:
    from livingai.protocol.status import ServiceStatus

Answer = TypeVar("Answer")


class Barrier(Enum):
    """Which writes that were accepted before the question are stored before it is answered."""

    NONE = "none"
    #: Those of the execution whose id is the first argument.
    ONE = "one"
    #: Those of all executions.
    ALL = "all"


class Answerer(Enum):
    """The process of the service that answers."""

    #: Reads the store. Asked again if it dies over a question.
    READER = "reader"
    #: Slow work that no read or write should wait for.
    HOUSEKEEPER = "housekeeper"
    #: The writer of the execution whose id is the first argument (all its writers, internally).
    WRITER = "writer"
    DISPATCHER = "dispatcher"


class PackedCheckpoint(NamedTuple):
    """A node's section, the kind of its state, and the state's bytes (None: it has none)."""

    node: bytes
    state_kind: int
    state: bytes | None


class ForkCounts(NamedTuple):
    """How many nodes and checkpoints a fork copied."""

    nodes: int
    checkpoints: int


class PackedEntry(NamedTuple):
    """A node of a range: its section, (epoch, seq) of its newest write and of its first one, the
    kind of its state and the state's bytes (None: it has none, or was not asked for it)."""

    node: bytes
    epoch: int
    seq: int
    first_epoch: int
    first_seq: int
    state_kind: int
    state: bytes | None


class StateSize(NamedTuple):
    """A checkpoint without its state: the node that carried it, the (epoch, seq) of that write, the
    bytes of the state and of what is stored of it, whether that is a delta on another checkpoint,
    and when it was saved (seconds since the Unix epoch)."""

    node_id: str
    epoch: int
    seq: int
    raw_bytes: int
    stored_bytes: int
    is_delta: bool
    saved_at: float


class PackedPage(NamedTuple):
    """The first nodes of a range; ``more``: others follow."""

    entries: list[PackedEntry]
    more: bool


class Verb(NamedTuple, Generic[Answer]):
    """Something that the service, or one of its processes, can be asked."""

    name: str
    barrier: Barrier
    by: Answerer
    #: What makes the typed answer from the plain values of the message.
    decode: Callable[[Any], Answer]

    def read(self, answer: Any) -> Answer:
        """The typed answer.

        Raises:
            ServiceError: these values are no answer to this question.
        """
        try:
            return self.decode(answer)
        except LivingAIError:
            raise
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise ServiceError(
                f"the service's answer to {self.name!r} makes no sense: {error}"
            ) from error


def _nothing(answer: Any) -> None:
    """Decodes the answer of a verb that is only done."""


def _checkpoint(answer: Any) -> PackedCheckpoint:
    node, kind, state = answer
    if type(node) is not bytes or type(kind) is not int or type(state) not in (bytes, type(None)):
        raise TypeError("it is no node with a kind and a state")
    return PackedCheckpoint(node, kind, state)


def _costs(answer: Any) -> list[CostLine]:
    return [CostLine(*line) for line in _lines(answer)]


def _lines(answer: Any) -> list[list[Any]]:
    if not isinstance(answer, list) or not all(isinstance(line, list) for line in answer):
        raise TypeError(f"{type(answer).__name__} is no list of lists")
    return answer


def _page(answer: Any) -> PackedPage:
    lines, more = answer
    entries = [PackedEntry(*line) for line in _lines(lines)]
    for entry in entries:
        node, *numbers, state = entry
        if (
            type(node) is not bytes
            or not all(type(number) is int for number in numbers)
            or type(state) not in (bytes, type(None))
        ):
            raise TypeError("a line is no node with its versions and its state")
    return PackedPage(entries, bool(more))


def _sizes(answer: Any) -> list[StateSize]:
    return [StateSize(*line) for line in _lines(answer)]


def _pages(answer: Any) -> list[PackedPage]:
    return [_page(page) for page in _lines(answer)]


def _dropped(answer: Any) -> DroppedNodes:
    nodes, blob_bytes, kept = answer
    return DroppedNodes(int(nodes), int(blob_bytes), tuple(map(str, kept)))


def _copied(answer: Any) -> ForkCounts:
    nodes, checkpoints = answer
    return ForkCounts(int(nodes), int(checkpoints))


def _pruned(answer: Any) -> Pruned:
    executions, checkpoints, blob_bytes, dropped, damaged = answer
    listed = (
        Dropped(execution_id, whole, tuple(map(tuple, versions)), *sizes)
        for execution_id, whole, versions, *sizes in dropped
    )
    return Pruned(executions, checkpoints, blob_bytes, tuple(listed), tuple(damaged))


def _status(answer: Any) -> ServiceStatus:
    # Agents do not ask it: the import of livingai.engine should not pay for its classes.
    from livingai.protocol.status import ServiceStatus  # noqa: PLC0415

    return ServiceStatus.from_wire(answer)


_READER, _HOUSEKEEPER = Answerer.READER, Answerer.HOUSEKEEPER
_WRITER, _DISPATCHER = Answerer.WRITER, Answerer.DISPATCHER

LATEST: Final = Verb[PackedCheckpoint]("latest", Barrier.ONE, _READER, _checkpoint)
NODES: Final = Verb[list[Any]]("nodes", Barrier.ONE, _READER, checked_message)
HISTORY: Final = Verb[list[Any]]("history", Barrier.ONE, _READER, checked_message)
LOAD: Final = Verb[PackedCheckpoint]("load", Barrier.ALL, _READER, _checkpoint)
NODES_BETWEEN: Final = Verb[PackedPage]("nodes_between", Barrier.ONE, _READER, _page)
NODE_PAGES: Final = Verb[list[PackedPage]]("node_pages", Barrier.ONE, _READER, _pages)
#: As NODE_PAGES, of what is stored at that moment.
STORED_PAGES: Final = Verb[list[PackedPage]]("stored_pages", Barrier.NONE, _READER, _pages)
EXECUTIONS: Final = Verb[list[ExecutionInfo]](
    "executions", Barrier.ALL, _READER, executions_from_wire
)
CHECKPOINTS: Final = Verb[list[StateSize]]("checkpoints", Barrier.ONE, _READER, _sizes)
COSTS: Final = Verb[list[CostLine]]("costs", Barrier.ALL, _READER, _costs)
SIZE: Final = Verb[int]("size", Barrier.NONE, _READER, int)
DELETE: Final = Verb[int]("delete", Barrier.ONE, _HOUSEKEEPER, int)
DROP_NODES: Final = Verb[DroppedNodes]("drop_nodes", Barrier.ONE, _HOUSEKEEPER, _dropped)
FORK: Final = Verb[ForkCounts]("fork", Barrier.ONE, _HOUSEKEEPER, _copied)
PRUNE: Final = Verb[Pruned]("prune", Barrier.NONE, _HOUSEKEEPER, _pruned)
CLAIM: Final = Verb[int]("claim", Barrier.ONE, _WRITER, int)
DRAIN: Final = Verb[None]("drain", Barrier.ALL, _DISPATCHER, _nothing)
READY: Final = Verb[None]("ready", Barrier.NONE, _DISPATCHER, _nothing)
STATUS: Final = Verb["ServiceStatus"]("status", Barrier.NONE, _DISPATCHER, _status)
WATCH: Final = Verb[WatchedPage]("watch", Barrier.NONE, _DISPATCHER, page_from_wire)


def _by_name(verbs: Iterable[Verb[Any]]) -> dict[str, Verb[Any]]:
    return {verb.name: verb for verb in verbs}


#: What agents and commands ask the service.
VERBS: Final = _by_name((
    LATEST, NODES, HISTORY, LOAD, NODES_BETWEEN, NODE_PAGES, STORED_PAGES, EXECUTIONS, CHECKPOINTS,
    COSTS, SIZE, DELETE, DROP_NODES, FORK, PRUNE, CLAIM, DRAIN, READY, STATUS, WATCH,
))  # fmt: skip
#: What the dispatcher alone asks its writers; agents are refused it. Decoded where it is asked.
INTERNAL: Final = _by_name((
    Verb[Any]("ready", Barrier.NONE, _WRITER, _nothing),
    Verb[Any]("elsewhere", Barrier.NONE, _WRITER, str),
    Verb[Any]("examine", Barrier.NONE, _WRITER, _nothing),
    Verb[Any]("commit", Barrier.NONE, _WRITER, list),
))  # fmt: skip


def verb_named(name: object) -> Verb[Any]:
    """The verb that agents ask by this name.

    Raises:
        ServiceError: there is none.
    """
    verb = VERBS.get(name) if isinstance(name, str) else None
    if verb is None:
        raise ServiceError(f"the service does not know the request {name!r:.100}")
    return verb
