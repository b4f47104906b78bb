"""The store contract as a plain model: a dict of every stored row, from which reads are derived."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from livingai.node import NodeField
from livingai.serial import pack
from livingai.stores.base import Row, RowResult, RowStatus
from livingai.stores.ranges import NodeRange
from livingai.stores.records import CostLine, DroppedNodes
from livingai.stores.standing import is_life

Version = tuple[int, int]  # (epoch, seq)


@dataclass
class _Execution:
    owners: list[tuple[str | None, int]] = field(default_factory=list)  # (claim, epoch), growing
    rows: dict[Version, Row] = field(default_factory=dict)
    dropped: set[Version] = field(default_factory=set)  # rows whose checkpoint was dropped
    created_at: float = 0.0
    #: The largest seq of each epoch, and the newest row of a life: what a store still knows of
    #: rows whose nodes were removed.
    last: dict[int, int] = field(default_factory=dict)
    life: tuple[Version, Row] | None = None
    dropped_upto: Version | None = None

    def epoch_of(self, claim: str | None) -> int | None:
        return next((epoch for known, epoch in self.owners if known == claim), None)

    @property
    def newest(self) -> int:
        return self.owners[-1][1] if self.owners else 0

    @property
    def checkpoints(self) -> list[Version]:
        """The versions with a state that is still there, oldest first."""
        rows = self.rows.items()
        found = [version for version, row in rows if row.blob is not None]
        return sorted(set(found) - self.dropped)

    def by_hash(self, content_hash: bytes) -> Row | None:
        """The checkpoint that answers for a hash: a full one, else the oldest."""
        rows = [self.rows[version] for version in self.checkpoints]
        same = [row for row in rows if row.content_hash == content_hash]
        return min(same, key=lambda row: row.base_hash is not None, default=None)

    def store(self, version: Version, row: Row) -> None:
        """Take a row of the newest claim, new or again."""
        epoch, seq = version
        self.dropped.discard(version)
        if not self.rows:
            self.created_at = row.saved_at
        self.rows.setdefault(version, row)
        self.last[epoch] = max(seq, self.last.get(epoch, -1))
        if is_life(row.wire) and (self.life is None or version > self.life[0]):
            self.life = (version, row)

    def clear(self) -> None:
        """Remove all rows."""
        self.rows.clear()
        self.dropped.clear()
        self.last.clear()
        self.life = None
        self.dropped_upto = None

    def versions(self, node_id: str) -> list[Version]:
        """The stored versions of a node, oldest first."""
        return sorted(version for version, row in self.rows.items() if row.node_id == node_id)


class StoreModel:
    """What a store must answer (rules 1 to 3, 7, 8 and 10 of :mod:`livingai.stores.base`)."""

    def __init__(self) -> None:
        self._executions: dict[str, _Execution] = {}

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """The results that a store has to give."""
        return [self._commit(row) for row in rows]

    def _commit(self, row: Row) -> RowResult:
        execution = self._executions.setdefault(row.execution_id, _Execution())
        epoch = execution.epoch_of(row.claim)
        if epoch is None:
            if row.epoch and row.epoch <= execution.newest:
                return RowResult(RowStatus.FENCED, row.epoch)
            epoch = row.epoch or execution.newest + 1
            execution.owners.append((row.claim, epoch))
        version = (epoch, row.seq)
        if epoch == execution.newest:
            stored = version in execution.checkpoints
            if row.base_hash and not stored and execution.by_hash(row.base_hash) is None:
                return RowResult(RowStatus.BASE_MISSING, epoch)
            execution.store(version, row)
            return RowResult(RowStatus.STORED, epoch)
        if self._is_stored(execution, row, version):
            return RowResult(RowStatus.STORED, epoch)
        return RowResult(RowStatus.FENCED, epoch)

    @staticmethod
    def _is_stored(execution: _Execution, row: Row, version: Version) -> bool:
        if row.blob is not None:
            return version in execution.checkpoints
        versions = execution.versions(row.node_id)
        if not versions or versions[-1] < version:
            return False
        return versions[-1][0] == version[0] or row.seq <= execution.last.get(version[0], -1)

    def owner(self, execution_id: str) -> str | None:
        """The newest claim; None where there is none, or the execution was deleted."""
        execution = self._executions.get(execution_id)
        return execution.owners[-1][0] if execution and execution.owners else None

    def claim(self, execution_id: str, claim: str) -> int | None:
        """The epoch that a store has to give; None: FencedError."""
        execution = self._executions.setdefault(execution_id, _Execution())
        epoch = execution.epoch_of(claim)
        if epoch is None:
            epoch = execution.newest + 1
            execution.owners.append((claim, epoch))
        return epoch if epoch == execution.newest else None

    def delete(self, execution_id: str) -> int:
        """The number of nodes that a store has to report."""
        execution = self._executions.get(execution_id)
        if execution is None:
            return 0
        nodes = len({row.node_id for row in execution.rows.values()})
        execution.clear()
        if execution.owners and execution.owners[-1][0] is not None:
            execution.owners.append((None, execution.newest + 1))
        return nodes

    def forget(self, execution_id: str) -> None:
        """It was never here."""
        self._executions.pop(execution_id, None)

    def drop(self, execution_id: str, versions: Sequence[Version]) -> int:
        """The number of bytes that a store has to report."""
        execution = self._executions.get(execution_id, _Execution())
        gone = set(versions) & set(execution.checkpoints)
        execution.dropped |= gone
        return sum(len(execution.rows[version].blob or b"") for version in gone)

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> DroppedNodes:
        """What a store has to remove and report."""
        execution = self._executions.get(execution_id, _Execution())
        asked = {row.node_id for row in execution.rows.values()} & set(node_ids)
        kept = asked & _needed(execution, asked)
        gone = {v: row for v, row in execution.rows.items() if row.node_id in asked - kept}
        sizes = [len(row.blob or b"") for v, row in gone.items() if v not in execution.dropped]
        execution.rows = {v: row for v, row in execution.rows.items() if v not in gone}
        execution.dropped -= set(gone)
        if gone:
            execution.dropped_upto = max(*gone, execution.dropped_upto or (0, 0))
        return DroppedNodes(len(asked - kept), sum(sizes), tuple(sorted(kept)))

    def dropped_upto(self, execution_id: str) -> Version | None:
        """What ``dropped_upto`` has to answer."""
        return self._executions.get(execution_id, _Execution()).dropped_upto

    def is_dropped(self, row: Row) -> bool:
        """Whether this row was stored, and its checkpoint dropped."""
        execution = self._executions.get(row.execution_id, _Execution())
        return (execution.epoch_of(row.claim) or 0, row.seq) in execution.dropped

    def seems_stored(self, row: Row) -> bool:
        """Whether this row, never seen before, would count as stored because a newer version of
        its node has replaced what it says (rule 1 cannot distinguish these)."""
        execution = self._executions.get(row.execution_id, _Execution())
        epoch = execution.epoch_of(row.claim) or execution.newest
        return epoch < execution.newest and self._is_stored(execution, row, (epoch, row.seq))

    def blob_by_hash(self, execution_id: str, content_hash: bytes) -> bytes | None:
        """What ``blob_by_hash`` has to answer."""
        found = self._executions.get(execution_id, _Execution()).by_hash(content_hash)
        return found.blob if found else None

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[tuple[Any, ...]]:
        """What ``nodes_between`` has to answer, in the form of
        :func:`livingai.testing.rows.ranged`."""
        execution = self._executions.get(execution_id, _Execution())
        found = []
        for node_id in sorted({row.node_id for row in execution.rows.values()}):
            first = execution.versions(node_id)[0]
            if asked.has(node_id, first):
                loaded = self._load(execution, node_id)
                if not asked.states:
                    loaded = (*loaded[:3], None, 0)
                found.append((node_id, first, *loaded))
        return found[:: -1 if asked.backwards else 1][: asked.limit]

    # -- what reads have to say; the form is that of livingai.testing.rows.contents() --

    def contents(self) -> dict[str, Any]:
        """All that the read methods have to say."""
        there = {name: found for name, found in self._executions.items() if found.rows}
        told: dict[str, Any] = {"list": {name: self._line(there[name]) for name in sorted(there)}}
        for name, execution in there.items():
            ids = {row.node_id for row in execution.rows.values()}
            first = {node_id: execution.versions(node_id)[0] for node_id in ids}
            ordered = sorted(ids, key=first.__getitem__)
            told[f"nodes {name}"] = [self._node(execution, node_id) for node_id in ordered]
            told[f"latest {name}"] = self._latest(execution)
            told[f"owners {name}"] = [(epoch, claim) for claim, epoch in execution.owners]
            told[f"checkpoints {name}"] = [
                self._checkpoint(execution, version) for version in execution.checkpoints
            ]
            for node_id in ids:
                told[f"node {node_id}"] = self._load(execution, node_id)
        return told

    def costs(self) -> list[CostLine]:
        """What ``costs`` has to answer, by execution."""
        lines = []
        for name, execution in sorted(self._executions.items()):
            newest = {row.node_id: row for _, row in sorted(execution.rows.items())}
            wires = [row.wire for row in newest.values()]
            sums = [
                sum(wire[field] or 0 for wire in wires)
                for field in (NodeField.COST_TOKENS, NodeField.LATENCY_MS)
            ]
            if wires:
                lines.append(CostLine(name, len(wires), sums[0], float(sums[1])))
        return lines

    @staticmethod
    def _line(execution: _Execution) -> tuple[Any, ...]:
        rows = execution.rows
        newest = max(rows)
        blobs = [rows[version].blob or b"" for version in execution.checkpoints]
        return (
            *newest,
            len({row.node_id for row in rows.values()}),
            len(blobs),
            sum(map(len, blobs)),
            execution.created_at,
            rows[newest].saved_at,
            *StoreModel._standing(execution),
        )

    @staticmethod
    def _standing(execution: _Execution) -> tuple[Any, ...]:
        """Status, whether it is a run, error, when its last life began and ended."""
        lives = execution.life
        wire = (lives[1] if lives else execution.rows[max(execution.rows)]).wire
        error = (
            f"{wire[NodeField.ERROR][0]}: {wire[NodeField.ERROR][1]}"
            if wire[NodeField.ERROR]
            else ""
        )
        times = (
            (wire[NodeField.CREATED_AT], wire[NodeField.COMPLETED_AT]) if lives else (None, None)
        )
        return (wire[NodeField.STATUS], bool(lives), error, *times)

    @staticmethod
    def _node(execution: _Execution, node_id: str) -> tuple[Any, ...]:
        first, newest = execution.versions(node_id)[0], execution.versions(node_id)[-1]
        row = execution.rows[newest]
        return (pack(row.wire), *newest, row.blob is not None, first)

    @staticmethod
    def _load(execution: _Execution, node_id: str) -> tuple[Any, ...]:
        versions = execution.versions(node_id)
        wire = pack(execution.rows[versions[-1]].wire)
        for version in reversed(versions):
            row = execution.rows[version]
            if version in execution.checkpoints:
                return (wire, *versions[-1], row.blob, row.state_kind)
        return (wire, *versions[-1], None, 0)

    @staticmethod
    def _checkpoint(execution: _Execution, version: Version) -> tuple[Any, ...]:
        row = execution.rows[version]
        newest = execution.rows[execution.versions(row.node_id)[-1]]
        return (
            pack(newest.wire), *version, row.blob, row.state_kind, row.node_id, row.base_hash,
            row.content_hash, row.raw_bytes, len(row.blob or b""), row.saved_at,
        )  # fmt: skip

    @classmethod
    def _latest(cls, execution: _Execution) -> tuple[Any, ...]:
        if execution.checkpoints:
            return cls._checkpoint(execution, execution.checkpoints[-1])[:5]
        version = max(execution.rows)
        return (pack(execution.rows[version].wire), *version, None, 0)


def _needed(execution: _Execution, asked: Collection[str]) -> set[str]:
    """Nodes that cannot go with all of ``asked``: the newest one, that of the newest checkpoint and
    of the last life, and those with bases of what stays."""
    newest = [max(execution.rows, default=None), *execution.checkpoints[-1:]]
    if execution.life:
        version, row = execution.life
        newest += [version] * (execution.versions(row.node_id)[-1:] == [version])
    needed = {execution.rows[version].node_id for version in newest if version}
    while True:
        stay = [
            execution.rows[version]
            for version in execution.checkpoints
            if execution.rows[version].node_id in needed
            or execution.rows[version].node_id not in asked
        ]
        bases = [execution.by_hash(row.base_hash) for row in stay if row.base_hash]
        more = {base.node_id for base in bases if base} - needed
        if not more:
            return needed
        needed |= more
