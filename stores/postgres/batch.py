"""A batch as calls of ``commit_rows``: which rows go together, and what the answers mean.

Rules:

1. Rows are sent in order of execution (the server locks in that order), and within an execution in
   the order in which they came.
2. A call has one claim per execution. Where a batch holds a takeover, the rows from there on go
   into a later call of the same transaction.
3. A call has at most :data:`CALL_BYTES` (and one row), a transaction as many calls as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from livingai.stores.base import RowResult, RowStatus
from livingai.stores.postgres.arrays import (
    Array,
    bigint_array,
    bytea_array,
    real_array,
    text_array,
)
from livingai.stores.postgres.rows import columns, key
from livingai.stores.shared.refusals import BASE_MISSING, fenced
from livingai.stores.shared.rows import Write, checkpoint_columns
from livingai.stores.standing import standing

#: libpq moves what it has not sent yet at every partial send, so large calls cost more than a few
#: smaller ones; measured: 0.5 to 2 MB are equally good, 64 MB take half as long again.
CALL_BYTES: Final = 1 << 20
_NO_CHECKPOINT: Final[tuple[Any, ...]] = (None,) * 7
#: How the columns of a row are sent, in the order of ``commit_rows``.
_TYPES: Final[tuple[Callable[[Sequence[Any]], Array], ...]] = (
    *(bigint_array,) * 3,  # which execution, seq, base at
    *(text_array,) * 5,  # node: id, type, status, name, parent
    bigint_array,  # cost
    *(real_array,) * 4,  # latency, created, completed, saved
    *(text_array,) * 4,  # input, output, error, metadata
    *(bytea_array,) * 2,  # sum, wire
    *(bigint_array,) * 3,  # checkpoint: kind, codec, raw bytes
    *(bytea_array,) * 4,  # base, content, sum, blob
    bigint_array,  # standing: whether it is a life
    text_array,  # standing: error
)
_PLACES: Final = ", ".join(["%b"] * (3 + len(_TYPES)))

Group = list[int]  # places in the batch of rows of one execution and claim, in order


class FunctionCall:
    """One call of ``commit_rows`` and which rows of the batch it holds."""

    def __init__(self, writes: Sequence[Write], groups: list[Group], human: bool) -> None:
        self._places = [at for group in groups for at in group]
        self._of = [x for x, group in enumerate(groups) for _ in group]
        firsts = [writes[group[0]].row for group in groups]
        rows: list[tuple[Any, ...]] = []
        for x, group in enumerate(groups, 1):
            held: dict[bytes, int] = {}  # content hash: the first row here that has it
            for at in group:
                rows.append(_row(writes[at], x, held, human))
                content, blob = writes[at].row.content_hash, writes[at].row.blob
                if content is not None and blob is not None:
                    held.setdefault(bytes(content), len(rows))
        self._arguments = [
            text_array([key(row.execution_id) for row in firsts]),
            text_array([key(row.claim) for row in firsts]),
            bigint_array([row.epoch for row in firsts]),
            *(array(values) for array, values in zip(_TYPES, zip(*rows, strict=True), strict=True)),
        ]
        self._epochs = [row.epoch for row in firsts]

    def statement(self, schema: str) -> tuple[str, Sequence[Any]]:
        """What to execute; ``schema`` is quoted."""
        return f"SELECT * FROM {schema}.commit_rows({_PLACES})", self._arguments

    def results(self, answer: Sequence[Any]) -> Iterator[tuple[int, RowResult]]:
        """(place in the batch, result) of each row."""
        statuses, owned, newest, deleted = answer
        for at, x, status in zip(self._places, self._of, statuses, strict=True):
            epoch = self._epochs[x] if owned[x] is None else owned[x]
            reason = ""
            if status == RowStatus.FENCED:
                reason = fenced(newest[x], epoch, deleted=bool(deleted[x]))
            elif status == RowStatus.BASE_MISSING:
                reason = BASE_MISSING
            yield at, RowResult(RowStatus(status), epoch, reason)


def calls(writes: Sequence[Write], *, human: bool = True) -> Iterator[FunctionCall]:
    """The calls of one transaction."""
    executions = sorted(range(len(writes)), key=lambda at: key(writes[at].row.execution_id))
    waves: list[list[Group]] = []
    size = 0
    for _, found in groupby(executions, key=lambda at: writes[at].row.execution_id):
        places = list(found)
        runs = groupby(places, key=lambda at: (writes[at].row.claim, writes[at].row.epoch))
        for number, (_, run) in enumerate(runs):
            if number == len(waves):
                waves.append([])
            waves[number].append(list(run))
        size += sum(writes[at].stored_bytes + len(writes[at].wire) for at in places)
        if size > CALL_BYTES:
            yield from (FunctionCall(writes, groups, human) for groups in waves)
            waves, size = [], 0
    yield from (FunctionCall(writes, groups, human) for groups in waves)


def _row(write: Write, x: int, held: dict[bytes, int], human: bool) -> tuple[Any, ...]:
    row = write.row
    base_at = 0 if row.base_hash is None else held.get(bytes(row.base_hash), 0)
    checkpoint = _NO_CHECKPOINT
    if row.blob is not None:
        _, kind, codec, raw, _, base, content, _, blob_sum = checkpoint_columns(write, row.blob)
        checkpoint = (kind, codec, raw, base, content, blob_sum, row.blob)
    elif row.base_hash is not None:
        checkpoint = (*_NO_CHECKPOINT[:3], row.base_hash, *_NO_CHECKPOINT[4:])
    said = standing(row.wire)
    return (
        x, row.seq, base_at, key(row.node_id), *columns(write, human=human), *checkpoint,
        int(said.is_life), key(said.error) or None,
    )  # fmt: skip
