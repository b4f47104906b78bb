"""What a writer does: records become rows, a batch at a time.

Records come by place and are read from the mapped journal; only encoded checkpoints come with the
request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from livingai import codecs, serial
from livingai.errors import CorruptRecordError, StoreUnavailableError
from livingai.failpoint import failpoint
from livingai.node import NodeField
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import ExtensionKey, Flag, offset_of, owner_token
from livingai.queue.record import read_record, read_sections
from livingai.queue.segment_cache import SegmentCache
from livingai.stores.base import Row, RowStatus, Store
from livingai.stores.belonging import look_elsewhere
from livingai.workers.store.role import Role

_log = logging.getLogger("livingai.service")
#: Row status of a record whose bytes in the journal are damaged.
DAMAGED = 100


class WriterRole(Role):
    """Verbs of a writer."""

    def __init__(self, store: Store, directory: StateDirectory | None = None) -> None:
        super().__init__(store, directory)
        self._segments = SegmentCache()

    def do_ready(self) -> None:
        """Connect, so that the first commit need not."""
        self._open()

    def do_elsewhere(self) -> str:
        """What waits for this store in other state directories of this machine."""
        return look_elsewhere(self._open(), self._directory) if self._directory is not None else ""

    def do_commit(self, records: list[list[Any]]) -> list[list[Any]]:
        """Commit records ``[journal, position, blob, content hash, base hash, sections' sum]``, of
        which the last four are None for a record that is stored as it is; for each one
        ``[row status, epoch, reason, commit time (CLOCK_MONOTONIC ns)]``."""
        rows: list[Row] = []
        damaged: dict[int, str] = {}
        for number, record in enumerate(records):
            try:
                rows.append(self._row(*record))
            except (CorruptRecordError, IndexError, TypeError, ValueError) as error:
                damaged[number] = str(error)
        failpoint("writer.before_commit")
        done = self._open().commit(rows) if rows else []
        failpoint("writer.after_commit")
        now = time.monotonic_ns()
        results = iter(done)
        answer: list[list[Any]] = []
        for number in range(len(records)):
            if number in damaged:
                answer.append([DAMAGED, 0, damaged[number], now])
            else:
                result = next(results)
                answer.append([int(result.status), result.epoch, result.reason, now])
        self._keep_places(
            {
                (row.execution_id, row.claim): None
                for row, result in zip(rows, done, strict=True)
                if result.status == RowStatus.REFUSED
            }
        )
        return answer

    def _keep_places(self, claims: Iterable[tuple[str, str]]) -> None:
        """Claim for rows that are about to be quarantined. A refused row claims nothing; if its
        claim were unknown when it is queued again, it would count as newer than those that have
        taken the execution over since, and fence them."""
        for execution_id, claim in claims:
            try:
                self._open().claim(execution_id, claim)
            except StoreUnavailableError:
                raise  # the batch is sent again
            except Exception as error:  # fenced, or ids that no store can hold
                _log.debug("no claim for what %r refused: %s", execution_id, error)

    def _row(
        self,
        journal: str,
        position: int,
        blob: bytes | None,
        content_hash: bytes | None,
        base_hash: bytes | None,
        sections: int | None,
    ) -> Row:
        view = self._segments.view(journal, position)
        offset = offset_of(position)
        if blob is not None and sections is not None:  # the state has gone through a compressor
            header, node, ext = read_sections(view, offset, sections)
        else:
            header, node, ext, state = read_record(view, offset)
            if header.flags & Flag.STATE:
                blob = b"\0" + state
                content_hash = codecs.content_hash(state)
        if max(header.epoch, header.seq) >> 63:
            raise ValueError("its epoch or its number within the claim is none that is given")
        wire: Any = serial.unpack(node)
        tags: Any = serial.unpack(ext) if ext else {}
        owner = tags.pop(ExtensionKey.OWNER, None) or owner_token(header.journal_id, header.claim)
        return Row(
            execution_id=wire[NodeField.EXECUTION_ID], node_id=wire[NodeField.ID], claim=owner,
            epoch=header.epoch, seq=header.seq, wire=wire, blob=blob, state_kind=header.state_kind,
            raw_bytes=header.state_len, saved_at=header.wall_ns / 1e9, base_hash=base_hash,
            content_hash=content_hash, tags=tags,
        )  # fmt: skip

    def do_claim(self, execution_id: str, claim: str) -> int:
        """The epoch that the store gives to ``claim``."""
        return self._open().claim(execution_id, claim)

    def close(self) -> None:
        super().close()
        self._segments.close()
