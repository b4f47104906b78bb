"""Quarantined records from a user's side: listing them, and queueing one again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from livingai import serial
from livingai.engine.engine import CheckpointEngine
from livingai.engine.pending import Pending
from livingai.errors import CorruptRecordError
from livingai.failpoint import failpoint
from livingai.node import NodeField
from livingai.outcome import Outcome, Receipt
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import (
    RECORD_HEADER_BYTES,
    ExtensionKey,
    Flag,
    owner_token,
)
from livingai.queue.patch import is_patch
from livingai.queue.quarantine import Quarantined, aside_paths, read_aside
from livingai.queue.record import read_record


@dataclass(frozen=True, slots=True)
class AsideRecord:
    """A quarantined record: its file, the reason, and its ids (None if it cannot be read)."""

    path: str
    reason: str
    execution_id: str | None
    node_id: str | None


def list_aside(directory: StateDirectory) -> list[AsideRecord]:
    """All quarantined records of a state directory."""
    found = []
    for path in aside_paths(directory.quarantine):
        try:
            aside = read_aside(path)
        except FileNotFoundError:
            continue
        except (CorruptRecordError, OSError) as error:
            found.append(AsideRecord(path, str(error), None, None))
            continue
        try:
            wire: Any = serial.unpack(_record(aside).node)
            names = (str(wire[NodeField.EXECUTION_ID]), str(wire[NodeField.ID]))
        except (ValueError, LookupError, TypeError):
            names = (None, None)  # type: ignore[assignment]
        found.append(AsideRecord(path, str(aside.about.get("reason", "")), *names))
    return found


def requeue(engine: CheckpointEngine, path: str, timeout: float | None = 30.0) -> Outcome:
    """Queue a quarantined record again, as the write that it was (same claim, same sequence), and
    wait for its outcome. The file is removed if the outcome is not ``quarantined``.

    The record is older than what is stored now, and a prune may be dropping the state before it.
    So its state is stored as a whole, never as a difference.

    Raises:
        CorruptRecordError: the record is damaged; nothing is queued.
        OutcomeTimeoutError: no outcome within ``timeout`` seconds; it is queued, the file stays.
    """
    aside = read_aside(path)
    header, node, ext, state = _record(aside)
    if is_patch(header):
        raise CorruptRecordError(
            f"{aside.path} holds only what had changed since an earlier state, which is damaged or "
            "gone: its state cannot be rebuilt"
        )
    tags: Any = serial.unpack(ext) if ext else {}
    tags.setdefault(ExtensionKey.OWNER.value, owner_token(header.journal_id, header.claim))
    wire: Any = serial.unpack(node)
    handle = engine.open_handle()
    journal = handle.open_journal()
    with handle.lock:
        at = journal.append(
            key=header.execution_hash, slot=-1, node_key=0, claim=header.claim,
            epoch=header.epoch, seq=header.seq, flags=header.flags | Flag.WHOLE,
            state_kind=header.state_kind, node=node, ext=serial.pack(tags), state=state,
            budget_us=header.budget_us,
        )  # fmt: skip
        receipt = Receipt(
            str(wire[NodeField.EXECUTION_ID]), str(wire[NodeField.ID]), at.lsn, at.position, None
        )
        handle.pending.add(at.lsn, Pending(receipt, at.mono_ns, None))
    failpoint("requeue.after_append")
    handle.connection.hurry()
    handle.sync_soon()
    outcome = receipt.result(timeout)
    if outcome.status != "quarantined":
        failpoint("requeue.before_unlink")
        os.unlink(path)
    return outcome


def _record(aside: Quarantined) -> Any:
    """The record inside a quarantine file, verified."""
    if len(aside.data) < RECORD_HEADER_BYTES:
        raise CorruptRecordError(f"{aside.path} holds no whole record")
    return read_record(aside.data, 0)
