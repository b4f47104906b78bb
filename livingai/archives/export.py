"""Writing an export: runs out of a store, line by line (:mod:`livingai.archives.lines`).

Rules:

1. A run is exported as it stood at one moment, or is told of in :attr:`Exported.moving`: its nodes
   are read again until no write came meanwhile, a limited number of times; later writes are left
   for the next export.
2. Memory is bounded by one run's nodes without their states, and a few states.
3. A run that cannot be read is left out and told of; the others are exported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from livingai._version import __version__
from livingai.archives.lines import FORMAT, ExportedWrite, line, write_line
from livingai.errors import CorruptRecordError, ExecutionNotFoundError, StateTooLargeError
from livingai.node import NodeField
from livingai.stores.base import SizedBlob, Store, StoredCheckpoint, StoredNode
from livingai.stores.comparing import Version, copied_claim
from livingai.stores.copied_rows import Renamer, copied_rows
from livingai.stores.copying import find_execution
from livingai.stores.states import StateDecoder

_PAGE: Final = 200
#: How often a run's nodes are read while it is written.
_READS: Final = 20
#: A run whose checkpoints were dropped while they were read is read once more.
_ATTEMPTS: Final = 2
_REMEMBERED: Final = 2
_REMEMBERED_BYTES: Final = 64 << 20


@dataclass(slots=True)
class Exported:
    """What an export has."""

    runs: int = 0
    nodes: int = 0
    states: int = 0
    #: Runs that were written all the time, so that what the export has of them is of no one moment.
    moving: list[str] = field(default_factory=list)
    #: Runs that are damaged, and why: they are not in the export.
    left_out: dict[str, str] = field(default_factory=dict)


def export_runs(
    store: Store,
    write: Callable[[bytes], object],
    *,
    runs: Iterable[str] = (),
    prefix: str = "",
    max_state_bytes: int,
    progress: Callable[[Exported], object] = lambda done: None,
) -> Exported:
    """Export these runs, or all whose id begins with ``prefix``. ``write`` gets line after line.

    Raises:
        ExecutionNotFoundError: there is no such run; nothing was written.
        StoreUnavailableError, StoreFormatError: as the store's reads.
    """
    named = list(dict.fromkeys(runs))
    for run in named:
        if find_execution(store, run) is None:
            raise ExecutionNotFoundError(f"no execution {run!r} in {store.url}")
    head = {"format": FORMAT, "version": __version__, "exported_at": time.time(),
            "store": store.url}  # fmt: skip
    write(line("livingai", head))
    done = Exported()
    for run in named or _all(store, prefix):
        _export(store, run, write, max_state_bytes, done)
        progress(done)
    write(line("runs", done.runs))
    return done


def _all(store: Store, prefix: str) -> Iterator[str]:
    after: str | None = None
    while page := store.list_executions(after=after, limit=_PAGE, prefix=prefix):
        yield from (info.execution_id for info in page)
        after = page[-1].execution_id


def _export(
    store: Store, run: str, write: Callable[[bytes], object], max_bytes: int, done: Exported
) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            moment = _Moment(store, run)
            if not moment.nodes:
                return  # deleted meanwhile
            write(line("run", run))
            count = states = 0
            for each in moment.writes(max_bytes):
                write(write_line(each))
                count += 1
                states += each.state is not None
        except (CorruptRecordError, StateTooLargeError) as error:
            write(line("left_out", {"run": run, "why": str(error)}))
            if attempt + 1 == _ATTEMPTS:
                done.left_out[run] = str(error)
        else:
            write(line("end", {"run": run, "writes": count}))
            done.runs += 1
            done.nodes += len(moment.nodes)
            done.states += states
            if moment.moving:
                done.moving.append(run)
            return


class _Moment:
    """A run as it stood at one moment."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self.nodes: list[StoredNode] = []
        #: Whether it was written at each attempt to read it.
        self.moving = True
        for _ in range(_READS):
            before = self._newest()
            self.nodes = list(store.nodes(run))
            if self._newest() == before:
                self.moving = False
                break
        self._upto = max(((node.epoch, node.seq) for node in self.nodes), default=(0, 0))
        self._wires = {str(node.wire[NodeField.ID]): node.wire for node in self.nodes}

    def _newest(self) -> Version | None:
        info = find_execution(self._store, self._run)
        if info is not None and info.damage:
            raise CorruptRecordError(info.damage)
        return (info.epoch, info.seq) if info is not None else None

    def writes(self, max_bytes: int) -> Iterator[ExportedWrite]:
        """Its writes, in order."""
        decoder = StateDecoder(
            self._store, self._run, max_bytes=max_bytes, remembered=_REMEMBERED,
            remembered_bytes=_REMEMBERED_BYTES,
        )  # fmt: skip
        claims = dict(self._store.owners(self._run))
        same = Renamer(self._run, None, None)
        for row, checkpoint in copied_rows(self._checkpoints(), self.nodes, claims, same):
            state = None
            if checkpoint is not None and checkpoint.blob is not None:
                found = SizedBlob(checkpoint.blob, checkpoint.raw_bytes)
                state = decoder.decode_next(found, checkpoint.content_hash)
            yield ExportedWrite(
                row.epoch, row.seq, row.claim or copied_claim(row.epoch), row.saved_at, row.wire,
                row.state_kind, state,
            )  # fmt: skip

    def _checkpoints(self) -> Iterator[StoredCheckpoint]:
        for each in self._store.checkpoints(self._run):
            wire = self._wires.get(str(each.wire[NodeField.ID]))
            if wire is not None and (each.epoch, each.seq) <= self._upto:
                yield replace(each, wire=wire)
