"""The part of :mod:`livingai.inspection.check` that compares the journals with the store: what the
journals say is stored has to be there.

Rules:

1. A record whose outcome is ``met`` or ``late``, or that the cursor has passed, is in the store:
   its node in this version or a newer one, and a state at least as new as its own (retention drops
   older ones, never the newest). Of one that is ``superseded``, a newer write is there.
2. What was deleted since is not missed: the store keeps the deletion among the execution's owners,
   and the claims before it. Nor is a node that was removed: of nodes that are not there at all,
   those up to the newest version that the store says was removed.
3. The journal is read before the store, and the outcome is written after the commit, so what is
   written meanwhile is not missed. What is missing is asked for twice: it may be deleted meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from livingai import serial
from livingai.errors import CorruptRecordError, CorruptRowError, DirectoryError
from livingai.inspection.executions import Version, line_of
from livingai.inspection.report import Code, Report
from livingai.node import NodeField
from livingai.outcome import STATUS_BY_CODE, OutcomeStatus
from livingai.queue.control import Control
from livingai.queue.cursor import CursorFile
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import ExtensionKey, Flag, Kind, owner_token, position
from livingai.queue.record import read_outcome, read_record
from livingai.queue.segment import segment_numbers
from livingai.queue.segments import Segments
from livingai.queue.walk import intact_records
from livingai.stores.base import Store

#: Records that are compared at a time.
_CHUNK: Final = 10_000
_STORED: Final = (OutcomeStatus.MET, OutcomeStatus.LATE)


class SettledRecord(NamedTuple):
    """A record that should be in the store, and where it lies in the journals. ``outcome`` is None
    where only the cursor says so."""

    journal: str
    position: int
    lsn: int
    outcome: OutcomeStatus | None
    execution_id: str
    node_id: str
    owner: str
    claim: int
    seq: int
    has_state: bool


def check_stored(directory: StateDirectory, store: Store, report: Report) -> None:
    """Compare the journals of a directory with its store, which is open."""
    report.counts["compared"] += 0
    for missing in missing_records(directory, store, report):
        first = missing[0]
        lsns = sorted(record.lsn for record in missing)
        several = (
            f"records {lsns[0]} to {lsns[-1]} ({len(lsns)})" if lsns[1:] else f"record {lsns[0]}"
        )
        named = f"execution {first.execution_id}, node {first.node_id}"
        outcome = f"the outcome {first.outcome}" if first.outcome else "been passed by the cursor"
        what = f"{several} of {named}, has {outcome}, and the store does not have it"
        report.note(Code.NOT_STORED, f"journals/{first.journal}", what)


def missing_records(
    directory: StateDirectory, store: Store, report: Report
) -> Iterator[list[SettledRecord]]:
    """What the journals say is stored, and the open ``store`` does not have; in each list the
    records of one journal and execution."""
    chunk: dict[tuple[str, str], list[SettledRecord]] = {}
    count = 0
    for path in directory.journal_paths():
        for record in _settled(path):
            chunk.setdefault((record.execution_id, record.journal), []).append(record)
            count += 1
            if count >= _CHUNK:
                yield from _missing_of(chunk, store)
                report.counts["compared"] += count
                chunk, count = {}, 0
    yield from _missing_of(chunk, store)
    report.counts["compared"] += count


def _missing_of(
    chunk: dict[tuple[str, str], list[SettledRecord]], store: Store
) -> Iterator[list[SettledRecord]]:
    for (execution_id, _), records in chunk.items():
        missing = _missing(store, execution_id, records)
        if missing:
            missing = _missing(store, execution_id, missing)
        if missing:
            yield missing


def _missing(store: Store, execution_id: str, records: list[SettledRecord]) -> list[SettledRecord]:
    """Those of an execution's records that the store does not have."""
    try:
        owners = store.owners(execution_id)
        epochs = {claim: epoch for epoch, claim in owners if claim is not None}
        deleted = max((epoch for epoch, claim in owners if claim is None), default=-1)
        missing, wanted = [], []
        for record in records:
            epoch = epochs.get(record.owner)
            if epoch is None:
                missing.append(record)
            elif epoch > deleted:
                wanted.append((record, (epoch, record.seq)))
        if not wanted:
            return missing
        newest, state = _newest(store, execution_id)
        ids = {record.node_id for record, _ in wanted}
        nodes = _versions(store, execution_id, ids)
        # Asked for last: what was gone by now is noted by now.
        dropped = store.dropped_upto(execution_id) or (0, 0)
    except CorruptRecordError:
        return []  # a finding of its own
    for record, version in wanted:
        if record.outcome is OutcomeStatus.SUPERSEDED:
            there = newest >= version
        elif record.node_id not in nodes and version <= dropped:
            continue
        else:
            there = nodes.get(record.node_id, (0, 0)) >= version
            there = there and (not record.has_state or state >= version)
        if not there:
            missing.append(record)
    return missing


def _newest(store: Store, execution_id: str) -> tuple[Version, Version]:
    """The newest write of an execution, and the newest one with a state."""
    state = (0, 0)
    for checkpoint in store.checkpoints(execution_id, blobs=False):
        state = max(state, (checkpoint.epoch, checkpoint.seq))
    line = line_of(store, execution_id)
    if line is not None and line.damage:
        raise CorruptRowError(line.damage)
    return ((line.epoch, line.seq) if line is not None else (0, 0)), state


def _versions(store: Store, execution_id: str, ids: set[str]) -> dict[str, Version]:
    """The newest version of each of these nodes."""
    found: dict[str, Version] = {}
    for node in store.nodes(execution_id):
        if node.wire[NodeField.ID] in ids:
            found[node.wire[NodeField.ID]] = (node.epoch, node.seq)
    return found


def _settled(path: str) -> Iterator[SettledRecord]:
    """The records of a journal that should be in the store. One that cannot be read is left out: a
    finding of its own."""
    with contextlib.ExitStack() as closing:
        try:
            control = closing.enter_context(contextlib.closing(Control(path)))
        except (CorruptRecordError, DirectoryError, OSError):
            return
        segments = closing.enter_context(contextlib.closing(Segments(path)))
        passed = 0 if control.damaged else _passed(path, control.journal_id)
        for number in segment_numbers(path):
            segment = segments.get(number)
            if segment is None:
                continue
            for header, at in intact_records(segment, control.journal_id, number):
                if header.kind != Kind.WRITE:
                    continue
                found = read_outcome(segment.view, at, header.lsn)
                outcome = STATUS_BY_CODE.get(found[0]) if found is not None else None
                if outcome in (*_STORED, OutcomeStatus.SUPERSEDED) or (
                    found is None and header.lsn <= passed
                ):
                    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
                        record = read_record(segment.view, at, header)
                        wire: Any = serial.unpack(record.node)
                        tags: Any = serial.unpack(record.ext) if record.ext else {}
                        owner = owner_token(header.journal_id, header.claim)
                        yield SettledRecord(
                            path.rpartition("/")[2], position(number, at), header.lsn, outcome,
                            str(wire[NodeField.EXECUTION_ID]), str(wire[NodeField.ID]),
                            str(tags.get(ExtensionKey.OWNER, owner)), header.claim, header.seq,
                            bool(header.flags & Flag.STATE),
                        )  # fmt: skip
            segments.drop(number)


def _passed(path: str, journal_id: int) -> int:
    """All records up to this one have their outcome, as the cursor says."""
    with (
        contextlib.suppress(FileNotFoundError, DirectoryError),
        contextlib.closing(CursorFile(path, journal_id)) as file,
    ):
        return file.read().lsn
    return 0
