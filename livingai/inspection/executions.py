"""The part of :mod:`livingai.inspection.check` that verifies what a store holds.

Each execution is read through the store contract, in pages and with no transaction that outlives a
page: every node, every state down its chain of deltas, and whether the execution's line and owners
are as new as its rows. What is written or removed meanwhile is no finding: an execution in which
something is found is read a second time, and only what is found again counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from livingai.config import DEFAULT_MAX_STATE_BYTES
from livingai.errors import (
    CorruptBlobError,
    CorruptRecordError,
    MissingBaseError,
    StateTooLargeError,
)
from livingai.inspection.report import Code, Report
from livingai.stores.base import ExecutionInfo, SizedBlob, Store, StoredCheckpoint
from livingai.stores.states import StateDecoder

_PAGE: Final = 200
#: States that are kept while an execution is read: in order, a delta's base is one of them.
_REMEMBERED: Final = 2

Version = tuple[int, int]


def check_executions(store: Store, report: Report) -> None:
    """Verify all executions of an open store."""
    after = None
    while page := store.list_executions(after=after, limit=_PAGE):
        for info in page:
            _check(store, info.execution_id, report)
        after = page[-1].execution_id
    for name in ("executions", "nodes", "states"):
        report.counts[name] += 0  # so that they are there


def line_of(store: Store, execution_id: str) -> ExecutionInfo | None:
    """The line of one execution; None: there is none."""
    for info in store.list_executions(prefix=execution_id, limit=1):
        if info.execution_id == execution_id:
            return info
    return None


def _check(store: Store, execution_id: str, report: Report) -> None:
    first = _Look(store, execution_id)
    first.run()
    found = first.found
    if found:
        again = _Look(store, execution_id)
        again.run()
        found = [each for each in found if each in again.found]
    report.counts["executions"] += 1
    report.counts["nodes"] += first.nodes
    report.counts["states"] += first.states
    for code, what in found:
        report.note(code, store.url, f"execution {execution_id}: {what}")


@dataclass(slots=True)
class _Look:
    """One reading of an execution."""

    store: Store
    execution_id: str
    found: list[tuple[Code, str]] = field(default_factory=list)
    nodes: int = 0
    checkpoints: int = 0
    states: int = 0
    _newest: Version = (0, 0)

    def run(self) -> None:
        """Rows first, then the line: a line that is read later is never older."""
        before = line_of(self.store, self.execution_id)
        self._read_states()
        self._read_nodes()
        after = line_of(self.store, self.execution_id)
        if after is None:
            self.found.clear()  # deleted meanwhile
        elif after.damage:
            self._note(Code.EXECUTION_DAMAGED, after.damage)
        else:
            self._check_line(after, steady=before == after)

    def _note(self, code: Code, what: str) -> None:
        if (code, what) not in self.found:  # a damaged row is met by more than one question
            self.found.append((code, what))

    def _see(self, epoch: int, seq: int) -> None:
        self._newest = max(self._newest, (epoch, seq))

    # -- states --

    def _read_states(self) -> None:
        decoder = self._decoder()
        done: set[Version] = set()
        try:
            for checkpoint in self.store.checkpoints(self.execution_id):
                self._see(checkpoint.epoch, checkpoint.seq)
                self.checkpoints += 1
                found = SizedBlob(checkpoint.blob or b"", checkpoint.raw_bytes)
                self._verify(decoder, checkpoint, found)
                done.add((checkpoint.epoch, checkpoint.seq))
        except CorruptRecordError as error:
            self._read_singly(done, error)

    def _read_singly(self, done: set[Version], error: CorruptRecordError) -> None:
        """A row ended the listing: the states behind it are asked for one by one."""
        decoder, before = self._decoder(), len(self.found)
        blob = isinstance(error, CorruptBlobError)
        try:
            for checkpoint in self.store.checkpoints(self.execution_id, blobs=False):
                version = (checkpoint.epoch, checkpoint.seq)
                self._see(*version)
                if version in done or checkpoint.content_hash is None:
                    continue
                self._verify_by_hash(decoder, checkpoint, checkpoint.content_hash)
        except CorruptRecordError as second:
            self._note(Code.NODE_DAMAGED, str(second))
        if blob and len(self.found) == before:  # another row has the same state, intact
            self._note(Code.STATE_DAMAGED, str(error))

    def _verify_by_hash(
        self, decoder: StateDecoder, checkpoint: StoredCheckpoint, content_hash: bytes
    ) -> None:
        try:
            found = self.store.sized_blob(self.execution_id, content_hash)
        except CorruptRecordError as error:
            what = f"state {checkpoint.epoch}.{checkpoint.seq} of node {checkpoint.node_id}: "
            self._note(Code.STATE_DAMAGED, what + str(error))
        else:
            if found is not None:  # else dropped meanwhile
                self._verify(decoder, checkpoint, found)

    def _decoder(self) -> StateDecoder:
        return StateDecoder(
            self.store, self.execution_id, max_bytes=DEFAULT_MAX_STATE_BYTES, remembered=_REMEMBERED
        )

    def _verify(
        self, decoder: StateDecoder, checkpoint: StoredCheckpoint, found: SizedBlob
    ) -> None:
        what = f"state {checkpoint.epoch}.{checkpoint.seq} of node {checkpoint.node_id}: "
        self.states += 1
        try:
            decoder.verify(found, checkpoint.content_hash)
        except MissingBaseError as error:
            self._note(Code.STATE_BASE, what + str(error))
        except StateTooLargeError as error:
            self._note(Code.STATE_TOO_LARGE, what + str(error))
        except CorruptRecordError as error:
            self._note(Code.STATE_DAMAGED, what + str(error))

    # -- nodes, line and owners --

    def _read_nodes(self) -> None:
        try:
            for node in self.store.nodes(self.execution_id):
                self._see(node.epoch, node.seq)
                self.nodes += 1
        except CorruptRecordError as error:
            self._note(Code.NODE_DAMAGED, str(error))

    def _check_line(self, line: ExecutionInfo, *, steady: bool) -> None:
        """``steady``: nothing was written or dropped between the first and the last look."""
        version = (line.epoch, line.seq)
        if version < self._newest:
            newest = "{}.{}".format(*self._newest)
            what = (
                f"write {newest} is there, but its line names {line.epoch}.{line.seq} as the newest"
            )
            self._note(Code.EXECUTION_BEHIND, what)
        try:
            owner = max((epoch for epoch, _ in self.store.owners(self.execution_id)), default=0)
        except CorruptRecordError as error:
            self._note(Code.EXECUTION_DAMAGED, str(error))
            return
        if owner < line.epoch:
            what = f"write {line.epoch}.{line.seq} is there, but the newest owner has epoch {owner}"
            self._note(Code.EXECUTION_BEHIND, what)
        counted = (self.nodes, self.checkpoints)
        if steady and not self.found and counted != (line.nodes, line.checkpoints):
            what = (
                f"its line counts {line.nodes} nodes and {line.checkpoints} states, and "
                f"{self.nodes} and {self.checkpoints} are there"
            )
            self._note(Code.EXECUTION_COUNTS, what)
