"""The part of :mod:`livingai.inspection.repair` for records that the store has lost and a journal
still has: after a database was restored from a copy, for example.

They are committed again as the writes that they were, by the writer's own code, in the order of
their claims. A claim that the store does not know would count as the newest there, so that is done
only where it is the newest: the store's newest owner is an older claim of this directory, or there
is none. It then brings the next epoch with it, so that the store fences it if others have claimed
the execution since that look. All else is left where it is.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from livingai.failpoint import failpoint
from livingai.inspection.report import Report
from livingai.inspection.stored import SettledRecord, missing_records
from livingai.inspection.workbench import Workbench
from livingai.stores.base import Row, RowStatus, Store
from livingai.workers.store.writer import HELD, UNENCODED, WriterRole

#: Records of one transaction.
_BATCH: Final = 64
#: As :meth:`WriterRole.do_commit` takes them: encoded there if that is quick, and as they are.
_QUICKLY: Final = (0,)
_AS_THEY_ARE: Final = (None, None, None, None)


def store_again(bench: Workbench, store: Store) -> None:
    """Store what the store has lost and the journals still have. It is the directory's store."""
    missing: dict[str, list[SettledRecord]] = defaultdict(list)
    with store:
        for records in missing_records(bench.directory, store, Report(bench.directory.path)):
            missing[records[0].execution_id] += records
        writer = _Writer(store)
        try:
            for execution_id, records in missing.items():
                records.sort(key=lambda record: (record.claim, record.owner, record.seq))
                for _, same in groupby(records, key=lambda record: (record.claim, record.owner)):
                    of_claim = list(same)
                    epoch = _epoch(bench, store, execution_id, of_claim[0])
                    if epoch is not None:
                        writer.epoch = epoch
                        _store(bench, writer, of_claim)
                    else:
                        why = "left as it is: others have claimed the execution in the store"
                        _note(bench, of_claim, why, lost=True)
        finally:
            writer.close()


class _Writer(WriterRole):
    """A writer that never claims the next epoch, whichever that is: only the one it is told."""

    #: The epoch of a claim that the store does not know.
    epoch = 0

    def _row(self, journal: str, position: int, *encoding: Any) -> Row:
        return dataclasses.replace(super()._row(journal, position, *encoding), epoch=self.epoch)

    def _keep_places(self, claims: Iterable[tuple[str, str]]) -> None:
        """Nothing is queued again later."""


def _epoch(bench: Workbench, store: Store, execution_id: str, record: SettledRecord) -> int | None:
    """The next epoch for the claim of a record; 0: the store knows the claim; None: it is not the
    next one behind what the store knows."""
    owners = store.owners(execution_id)
    if record.owner in {owner for _, owner in owners}:
        return 0
    if not owners:
        return 1
    epoch, newest = max(owners)
    journal, _, claim = str(newest).partition("-")
    here = {os.path.basename(path) for path in bench.directory.journal_paths()}
    return epoch + 1 if journal in here and int(claim, 16) < record.claim else None


def _store(bench: Workbench, writer: _Writer, records: list[SettledRecord]) -> None:
    done: dict[tuple[str, int], list[Any]] = {}
    for first in range(0, len(records), _BATCH):
        batch = records[first : first + _BATCH]
        left = _commit(bench, writer, batch, _QUICKLY, done)
        _commit(bench, writer, left, _AS_THEY_ARE, done)
        failpoint("repair.after_store")
    for (status, reason), some in groupby(records, lambda r: _outcome(done[r.journal, r.position])):
        if status == RowStatus.STORED:
            _note(bench, some, "stored again")
        else:
            _note(bench, some, f"left as it is: {reason}", lost=True)


def _outcome(answer: list[Any]) -> tuple[int, str]:
    return answer[0], answer[2]


def _commit(
    bench: Workbench,
    writer: _Writer,
    batch: list[SettledRecord],
    how: tuple[Any, ...],
    done: dict[tuple[str, int], list[Any]],
) -> list[SettledRecord]:
    """Commit records; those whose encoding takes long, and what comes behind them, are left."""
    folder = bench.directory.journals
    asked = [[os.path.join(folder, each.journal), each.position, *how] for each in batch]
    left = []
    for record, answer in zip(batch, writer.do_commit(asked) if asked else [], strict=True):
        if answer[0] in (UNENCODED, HELD):
            left.append(record)
        else:
            done[record.journal, record.position] = answer
    return left


def _note(
    bench: Workbench, records: Iterable[SettledRecord], what: str, *, lost: bool = False
) -> None:
    some = list(records)
    lsns = sorted(record.lsn for record in some)
    numbers = f"record {lsns[0]}" if len(lsns) == 1 else f"{len(lsns)} records from {lsns[0]} on"
    path = os.path.join(bench.directory.journals, some[0].journal)
    bench.note(path, f"{numbers} of execution {some[0].execution_id}: {what}", lost=lost)
