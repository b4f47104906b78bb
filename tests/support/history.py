"""What agents did and what came of it, and whether that keeps the invariants.

A history is written from outside: when each call began and returned, what it said, which outcome
each write had, what the store holds at the end. :func:`violations` looks at it. Times are any
numbers that grow; what is not known is None, and then only what can be concluded without it is
checked.

Order: the writes of a claim come in order of ``seq``, claims of one host in order of their number.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Version = tuple[int, int]  # (epoch, seq)
INFINITE = float("inf")


@dataclass(eq=False, slots=True)
class Write:
    """A call of ``save``."""

    #: Its node's id, which no other write has.
    name: str
    execution: str
    #: What was saved; different for each write, too.
    state: bytes
    agent: str
    host: str
    #: Whether its state is to be kept, or may be superseded.
    history: bool
    began: float
    #: When it returned; None: its process died before that.
    returned: float | None = None
    #: The store refuses it for good, so that it is quarantined.
    poison: bool = False
    #: It raised an error, which says that nothing was saved.
    refused: bool = False
    #: The owner token in the store, number of the claim, and number within it.
    owner: str = ""
    claim: int = 0
    seq: int = 0
    #: Outcomes that its agent was told: (when, status).
    told: list[tuple[float, str]] = field(default_factory=list)

    def __str__(self) -> str:
        end = "refused" if self.refused else self.returned
        said = ",".join(status for _, status in self.told)
        return (
            f"{self.execution} claim {self.claim} seq {self.seq} of {self.agent}@{self.host} "
            f"[{self.began}, {end}] {'' if self.history else 'latest only '}{said}"
        )


@dataclass(eq=False, slots=True)
class Entry:
    """An agent has taken an execution over: its claim, and the call in which it did so, which is
    over with the agent's death at the latest."""

    execution: str
    agent: str
    host: str
    claim: int
    began: float
    returned: float = INFINITE


@dataclass(eq=False, slots=True)
class Read:
    """A call of ``latest``."""

    execution: str
    agent: str
    host: str
    began: float
    returned: float
    #: The write whose node it returned; None: it found none.
    seen: str | None
    #: Whether the state was that of this write.
    sound: bool = True

    def __str__(self) -> str:
        return (
            f"read of {self.execution} by {self.agent}@{self.host} [{self.began}, {self.returned}]"
        )


@dataclass(slots=True)
class Stored:
    """A row of the store at the end. ``state`` is None where it cannot be decoded."""

    execution: str
    owner: str
    version: Version
    state: bytes | None


@dataclass(slots=True)
class History:
    """All that happened."""

    writes: list[Write] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    #: Agents that lived to the end: each of their writes has been told its outcome.
    living: set[str] = field(default_factory=set)
    #: New rows in the order in which they came into the store: execution and version. Empty where
    #: that is not known, or may be otherwise (copies after a failed sync come behind).
    commits: list[tuple[str, Version]] = field(default_factory=list)


def violations(history: History) -> list[str]:
    """What contradicts the invariants; empty: nothing."""
    found: list[str] = []
    rows: dict[str, list[Stored]] = defaultdict(list)
    for row in history.stored:
        rows[row.execution].append(row)
    by_execution: dict[str, list[Write]] = defaultdict(list)
    for write in history.writes:
        by_execution[write.execution].append(write)
    entries: dict[str, list[Entry]] = defaultdict(list)
    for entry in history.entries:
        entries[entry.execution].append(entry)
    for execution, writes in by_execution.items():
        one = _Execution(writes, rows.pop(execution, []), entries[execution])
        found.extend(one.wrong_rows())
        for write in writes:
            found.extend(f"{write}: {what}" for what in one.wrong(write, history.living))
        found.extend(one.wrong_order())
        for read in history.reads:
            if read.execution == execution:
                found.extend(f"{read}: {what}" for what in one.wrong_read(read))
    found.extend(f"{execution}: stored, and nobody saved it" for execution in rows)
    found.extend(_went_back(history))
    return found


def _went_back(history: History) -> Iterator[str]:
    """I2: what an execution has in the store never goes back. (A state that may be superseded may
    come behind the newer one, where the answer to that was lost.)"""
    lean = {write.state for write in history.writes if not write.history}
    late = {(row.execution, row.version) for row in history.stored if row.state in lean}
    newest: dict[str, Version] = {}
    for execution, version in history.commits:
        if (execution, version) in late:
            continue
        if version < newest.get(execution, version):
            yield f"{execution}: {version} came into the store behind {newest[execution]}"
        newest[execution] = version


class _Execution:
    """One execution."""

    def __init__(self, writes: list[Write], rows: list[Stored], entries: list[Entry]) -> None:
        self.writes = writes
        self.rows = rows
        self.entries = entries
        self.by_state = {write.state: write for write in writes}
        self.by_name = {write.name: write for write in writes}
        #: Version in the store, by write.
        self.versions: dict[Write, Version] = {}
        #: Epochs of owners of which something is stored.
        self.epochs = {row.owner: row.version[0] for row in rows}

    def wrong_rows(self) -> Iterator[str]:
        """I3: what is stored was written, once, and by whom it says."""
        for row in self.rows:
            write = self.by_state.get(row.state) if row.state is not None else None
            if write is None:
                yield f"{row.execution} {row.version}: its state was never written"
                continue
            if write in self.versions:
                yield f"{write}: stored as {self.versions[write]} and as {row.version}"
            self.versions[write] = row.version
            if write.returned is None:  # only the store knows what its process did not live to see
                write.owner, write.seq = row.owner, row.version[1]
            if write.refused:
                yield f"{write}: refused, and stored"
            if write.owner and row.owner != write.owner:
                yield f"{write}: stored for another owner, {row.owner}"
            if write.seq and row.version[1] != write.seq:
                yield f"{write}: stored with another number, {row.version}"

    def wrong(self, write: Write, living: Iterable[str]) -> Iterator[str]:
        """I1 and I4 for one write."""
        statuses = [status for _, status in write.told]
        if len(statuses) > 1:
            yield "more than one outcome"
        if write.returned is None or write.refused:
            if statuses:
                yield "an outcome, and it was never accepted"
            return
        if not statuses and write.agent in living:
            yield "accepted, and never an outcome"
        for status in statuses:
            if what := self._untrue(write, status):
                yield what
        stored = write in self.versions
        if write.poison:
            if stored:
                yield "stored, and the store refuses it"
        elif not stored and not self._counts(write) and (why := self._unfair_fence(write)):
            yield f"accepted and lost: {why}"

    def _untrue(self, write: Write, status: str) -> str:
        """What is wrong with an outcome; "" if it is true."""
        stored = write in self.versions
        if status in ("met", "late"):
            return "" if stored else "told that it is stored, and it is not"
        if status == "superseded":
            fair = not write.history and self._newer(write)
            return "" if fair else "superseded by nothing that is stored, or it asked for history"
        if status == "fenced":
            return "told that it is fenced, and it is stored" if stored else ""
        fair = status == "quarantined" and write.poison
        return "" if fair else f"told that it is {status}, and the store would have taken it"

    def _newer(self, write: Write) -> bool:
        """Whether a newer state of the same claim is stored."""
        return any(other.owner == write.owner and other.seq > write.seq for other in self.versions)

    def _counts(self, write: Write) -> bool:
        """Whether it is stored, or what came of it."""
        return write in self.versions or (
            not write.history and not write.poison and self._newer(write)
        )

    def _unfair_fence(self, write: Write) -> str:
        """Why it may not have been fenced: nobody else was taking the execution over before it was
        accepted. What is accepted before a take-over is stored before it, but on another host that
        comes to the store when it comes."""
        mine = self._entry(write)
        began = mine.began if mine is not None else 0
        assert write.returned is not None
        for entry in self.entries:
            if entry.host != write.host:
                return ""
            if entry is not mine and entry.returned >= began and entry.began < write.returned:
                return ""
        return "nobody had begun to take the execution over by then"

    def wrong_order(self) -> Iterator[str]:
        """I2: of two writes on one host, of which one returned before the other began, the store
        has them in that order."""
        placed = sorted(self.versions, key=lambda write: self.versions[write])
        for number, later in enumerate(placed):
            for earlier in placed[:number]:
                if (
                    later.host == earlier.host
                    and later.returned is not None
                    and later.returned < earlier.began
                ):
                    yield f"{later}: stored behind what was written after it: {earlier}"

    def wrong_read(self, read: Read) -> Iterator[str]:
        """I3, and reads see what was accepted before them."""
        seen = None
        if read.seen is not None:
            seen = self.by_name.get(read.seen)
            if seen is None or not read.sound:
                yield f"it returned what was never written: {seen}"
                return
            if seen.began > read.returned:
                yield f"it returned what was written later: {seen}"
            # The disk may fail as a record is written anew that another process met meanwhile.
            if seen.refused and seen.returned is not None and seen.returned < read.began:
                yield f"it returned what was refused: {seen}"
        # What was fenced may have come from a process that did not know it yet; what was superseded
        # has a successor.
        for write in self.writes:
            if write.returned is None or write.refused or write.returned >= read.began:
                continue
            if write.host != read.host or not self._counts(write):
                continue
            if seen is None:
                yield f"it found nothing, and there was {write}"
            elif self._is_before(seen, write):
                yield f"it returned {seen}, and there was already {write}"

    def _is_before(self, one: Write, other: Write) -> bool:
        """Whether one write comes before another one, that is stored or superseded."""
        if one.owner == other.owner:
            return one.seq < other.seq
        mine, theirs = self.epochs.get(one.owner), self.epochs.get(other.owner)
        if mine is not None and theirs is not None:
            return mine < theirs
        # One was fenced, or not accepted: it is older if its claim is.
        entries = [self._entry(one), self._entry(other)]
        if one.host != other.host or entries[0] is None or entries[1] is None:
            return False
        return entries[0].returned < entries[1].began

    def _entry(self, write: Write) -> Entry | None:
        found = (e for e in self.entries if (e.claim, e.agent) == (write.claim, write.agent))
        return next(found, None)


def summary(histories: Iterable[History]) -> Counter[str]:
    """How much happened."""
    total: Counter[str] = Counter()
    for history in histories:
        total["writes"] += len(history.writes)
        total["reads"] += len(history.reads)
        total["rows"] += len(history.stored)
        total["take-overs"] += len(history.entries)
        for write in history.writes:
            if write.returned is None:
                total["killed in a save"] += 1
            elif write.refused:
                total["refused"] += 1
            for _, status in write.told:
                total[status] += 1
    return total
