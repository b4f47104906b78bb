"""What a writer does: records become rows, a batch at a time.

Records come by place and are read from the mapped journal. A checkpoint comes with the request if
a compressor has encoded it; one that is encoded quickly is encoded here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from typing import Any

from livingai import codecs, serial
from livingai.config import ServiceConfig
from livingai.errors import CorruptRecordError, StoreError, StoreUnavailableError
from livingai.failpoint import failpoint
from livingai.node import NodeField
from livingai.queue.counters import BATCH, COMMIT, StoreCounter
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import (
    ExtensionKey,
    Flag,
    offset_of,
    owner_token,
)
from livingai.queue.patch import blob_of, state_bytes, with_state
from livingai.queue.record import Record, parse_header, read_record, read_sections
from livingai.queue.segment_cache import SegmentCache
from livingai.queue.tally import STORE_TALLY, StoreTally
from livingai.stores.base import Row, RowResult, RowStatus, Store
from livingai.stores.elsewhere import look_elsewhere
from livingai.workers.encoding import Unencoded, encode_quickly
from livingai.workers.encoding_task import AS_IT_IS, EncodingTask
from livingai.workers.store.role import Role

_log = logging.getLogger("livingai.service")
#: Row status of a record whose bytes in the journal are damaged.
DAMAGED = 100
#: Answered for a record whose encoding takes long: it is left to a compressor.
UNENCODED = 101
#: Answered for what comes behind such a record, of its execution: it is not written either.
HELD = 102


class WriterRole(Role):
    """Verbs of a writer."""

    def __init__(
        self, store: Store, directory: StateDirectory | None = None, codec: str = "auto"
    ) -> None:
        super().__init__(store, directory)
        self._codec = codec
        self._segments = SegmentCache()
        self._tally: StoreTally | None = None
        self._uncounted = False

    @classmethod
    def of(cls, config: ServiceConfig) -> WriterRole:
        return cls(config.spec().build(), StateDirectory(config.directory), config.codec)

    def do_ready(self) -> None:
        """Connect, so that the first commit need not."""
        self._open()

    def do_examine(self) -> None:
        """Look whether the store is sound. Raises StoreDamagedError: it is not. It is not opened
        before: that may write to it."""
        self._store.examine()

    def do_elsewhere(self) -> str:
        """What waits for this store in other state directories of this machine."""
        return look_elsewhere(self._open(), self._directory) if self._directory is not None else ""

    def do_commit(self, records: list[list[Any]], sizes: bool = False) -> list[list[Any]]:
        """Commit records; for each one ``[row status, epoch, reason, commit time (CLOCK_MONOTONIC
        ns)]``, with ``sizes`` (dispatchers from revision 5 on) followed by the bytes of its state
        and of what the store was given for that. A record is

        * ``[journal, position, base's position]``: its state is encoded here, against the state of
          the record at that position (0: alone), or left to a compressor (``UNENCODED``); with
          :data:`~.encoding_task.AS_IT_IS` it is a patch, whose base the store should have;
        * ``[journal, position, blob, content hash, base hash, sections' sum]``: it was encoded, or,
          where these four are None, it is stored as it is.

        Raises:
            StoreUnavailableError: a dispatcher of another version, with records of another form.
        """
        if any(len(record) not in (3, 6) for record in records):
            raise StoreUnavailableError(
                "the service runs with another version of livingai than the one that is installed "
                "now, and its writers do not understand it: restart it"
            )
        failpoint("writer.before_batch")
        rows: list[Row] = []
        #: What is not written: row status and reason, by number.
        left: dict[int, tuple[int, str]] = {}
        #: Executions of which a record is left to the compressors.
        held: set[int] = set()
        for number, record in enumerate(records):
            try:
                if held and self._key(*record[:2]) in held:
                    left[number] = HELD, ""
                else:
                    rows.append(self._row(*record))
            except Unencoded as error:
                held.add(error.key)
                left[number] = UNENCODED, ""
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
                left[number] = DAMAGED, str(error)
        failpoint("writer.before_commit")
        done = self._commit(rows) if rows else []
        failpoint("writer.after_commit")
        now = time.monotonic_ns()
        results = zip(rows, done, strict=True)
        answer: list[list[Any]] = []
        for number in range(len(records)):
            if number in left:
                status, reason = left[number]
                answer.append([status, 0, reason, now])
            else:
                row, result = next(results)
                answer.append([int(result.status), result.epoch, result.reason, now])
                if sizes:
                    answer[-1] += [row.raw_bytes, len(row.blob or b"")]
        self._keep_places(
            {
                (row.execution_id, row.claim): None
                for row, result in zip(rows, done, strict=True)
                if result.status == RowStatus.REFUSED
            }
        )
        return answer

    def _commit(self, rows: list[Row]) -> list[RowResult]:
        """Have the store commit rows, and count that (``store.tally``)."""
        try:
            store = self._open()
            began_ns = time.monotonic_ns()
            done = store.commit(rows)
        except StoreError:
            self._count({StoreCounter.FAILED: 1})
            raise
        took_us = (time.monotonic_ns() - began_ns) // 1000
        blobs = [
            (row.raw_bytes, len(row.blob))
            for row, result in zip(rows, done, strict=True)
            if result.status == RowStatus.STORED and row.blob is not None
        ]
        self._count({
            StoreCounter.ROWS: len(rows),
            StoreCounter.COMMIT_US: took_us,
            StoreCounter.RAW_BYTES: sum(raw for raw, _ in blobs),
            StoreCounter.STORED_BYTES: sum(stored for _, stored in blobs),
            COMMIT.place(took_us): 1,
            BATCH.place(len(rows)): 1,
        })  # fmt: skip
        return done

    def _count(self, more: dict[int, int]) -> None:
        """Add to the tally of all writers, without waiting for them. Where there can be no tally
        that is said once, and nothing is counted."""
        if self._directory is None:
            return
        try:
            if self._tally is None:
                self._tally = StoreTally(os.path.join(self._directory.path, STORE_TALLY))
            self._tally.add(more)
        except OSError as error:
            self._say_uncounted(error)

    def _say_uncounted(self, why: object) -> None:
        if not self._uncounted:
            _log.warning("metrics of the store are not counted: %s", why)
        self._uncounted = True

    def idle(self) -> None:
        """As of any role; and count what could not be counted when it was stored."""
        super().idle()
        if self._tally is not None:
            try:
                self._tally.write()
            except OSError as error:
                self._say_uncounted(error)

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

    def _key(self, journal: str, position: int) -> int | None:
        """The hash of a record's execution; None: it is damaged."""
        header = parse_header(self._segments.view(journal, position), offset_of(position))
        return None if header is None else header.execution_hash

    def _row(self, journal: str, position: int, *encoding: Any) -> Row:
        done = None
        as_it_is = encoding == (AS_IT_IS,)
        if len(encoding) == 1 and not as_it_is:
            done = self._encoded(EncodingTask(journal, position, *encoding))
        blob = content_hash = base_hash = None
        view = self._segments.view(journal, position)
        if done is not None:
            (header, node, ext, state), encoded = done
            blob, base_hash = encoded.blob, encoded.base_hash
            content_hash = codecs.content_hash(state)
            raw_bytes = len(state)
        elif len(encoding) > 1 and encoding[0] is not None:
            blob, content_hash, base_hash, sections = encoding
            header, node, ext = read_sections(view, offset_of(position), sections)
            start = offset_of(position) + header.state_offset
            raw_bytes = state_bytes(header, view[start : start + header.state_len])
        else:
            record = read_record(view, offset_of(position))
            if as_it_is:
                patch, content_hash = blob_of(record)
                blob, base_hash = codecs.compress_patch(patch), codecs.base_of(patch)
                raw_bytes = codecs.size_of(patch)
            else:
                record = with_state(self._segments.segments(journal), record)
                raw_bytes = len(record.state)
                if record.header.flags & Flag.STATE:
                    blob = b"\0" + record.state
                    content_hash = codecs.content_hash(record.state)
            header, node, ext, _ = record
        if max(header.epoch, header.seq) >> 63:
            raise ValueError("its epoch or its number within the claim is out of range")
        wire: Any = serial.unpack(node)
        tags: Any = serial.unpack(ext) if ext else {}
        tags.pop(ExtensionKey.TRACE, None)
        owner = tags.pop(ExtensionKey.OWNER, None) or owner_token(header.journal_id, header.claim)
        return Row(
            execution_id=wire[NodeField.EXECUTION_ID], node_id=wire[NodeField.ID], claim=owner,
            epoch=header.epoch, seq=header.seq, wire=wire, blob=blob, state_kind=header.state_kind,
            raw_bytes=raw_bytes, saved_at=header.wall_ns / 1e9, base_hash=base_hash,
            content_hash=content_hash, tags=tags, packed=node,
        )  # fmt: skip

    def _encoded(self, task: EncodingTask) -> tuple[Record, codecs.Encoded] | None:
        """The record and its encoded state; None: store it as it is."""
        try:
            failpoint("writer.before_encode")
            return encode_quickly(self._segments, task, self._codec)
        except (CorruptRecordError, Unencoded):
            raise
        except Exception as error:
            _log.error("encoding failed, storing raw: %r", error)
            return None

    def do_claim(self, execution_id: str, claim: str) -> int:
        """The epoch that the store gives to ``claim``."""
        failpoint("writer.before_claim")
        epoch = self._open().claim(execution_id, claim)
        failpoint("writer.after_claim")
        return epoch

    def close(self) -> None:
        super().close()
        self._segments.close()
        if self._tally is not None:
            try:
                if not self._tally.finish():
                    self._say_uncounted(f"another process keeps {self._tally.path} locked")
            except OSError as error:
                self._say_uncounted(error)
            self._tally.close()
