"""Looking into a database and a journal directly, past the engine and the service."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from livingai import SQLiteStore, codecs
from livingai.engine.cache import ASK, HotCache
from livingai.node import NodeField
from livingai.protocol.sections import decode_state
from livingai.queue.directory import StateDirectory
from livingai.queue.layout import offset_of, segment_of
from livingai.queue.record import read_outcome
from livingai.queue.tail import Found, JournalTail
from livingai.stores.base import Store
from livingai.stores.opening import open_store


def decoded(store: Store, execution: str, blob: bytes) -> bytes:
    """The bytes of a state of an execution, with whatever it is built on."""

    def base(content_hash: bytes) -> bytes:
        found = store.blob_by_hash(execution, content_hash)
        assert found is not None, "a delta's base is gone"
        return decoded(store, execution, found)

    return codecs.decode(blob, fetch_base=base, max_bytes=1 << 30)


def stored_state(where: Path | str, execution: str) -> Any:
    """The newest state that the store (a file or URL) has; None without one."""
    with open_store(str(where)) as store:
        return state_in(store, execution)


def state_in(store: Store, execution: str) -> Any:
    """As :func:`stored_state`, of any open store."""
    found = store.latest_checkpoint(execution)
    if found is None or found.blob is None:
        return None
    return decode_state(found.state_kind, decoded(store, execution, found.blob))


def stored_steps(where: Path | str, execution: str) -> list[int]:
    """The steps that the store (a file or URL) has, in order of their first save."""
    with open_store(str(where)) as store:
        return [node.wire[NodeField.OUTPUT]["step"] for node in store.nodes(execution)]


def stored_states(where: Path | str, execution: str) -> list[tuple[int, Any]]:
    """Step and state of every checkpoint in the store (a file or URL), in order."""
    with open_store(str(where)) as store:
        steps = {
            node.wire[NodeField.ID]: node.wire[NodeField.OUTPUT]["step"]
            for node in store.nodes(execution)
        }
        found = []
        for checkpoint in store.checkpoints(execution):
            assert checkpoint.blob is not None
            raw = decoded(store, execution, checkpoint.blob)
            found.append((steps[checkpoint.node_id], decode_state(checkpoint.state_kind, raw)))
        return found


def stored_nodes(database: Path, execution: str) -> list[str]:
    """Ids of the nodes in the store, in order of their first save."""
    with SQLiteStore(database) as store:
        return [node.wire[NodeField.ID] for node in store.nodes(execution)]


def cached_state(directory: StateDirectory, execution: str) -> Any:
    """What the hot cache alone says of an execution; AssertionError if it has no answer."""
    cache = HotCache(directory, ttl_s=3600.0)
    try:
        hit = cache.latest(execution)
        assert hit is not ASK, f"the cache cannot tell about {execution}"
        return hit.state  # type: ignore[union-attr]
    finally:
        cache.close()


def has_outcome(tail: JournalTail, found: Found) -> bool:
    """Whether a record's outcome is noted in its journal."""
    segment = tail.segments.get(segment_of(found.position))
    assert segment is not None
    return read_outcome(segment.view, offset_of(found.position), found.header.lsn) is not None


def check_database(database: Path) -> None:
    """SQLite's own check, and epochs that do not go back."""
    with closing(apsw.Connection(str(database))) as connection:
        if connection.pragma("application_id") == 0:
            return  # not ours: a test's own file
        assert connection.pragma("integrity_check") == "ok"
        wrong = connection.execute(
            "SELECT e.execution_id FROM executions AS e WHERE (e.epoch, e.seq) < "
            "(SELECT max(c.epoch), max(c.seq) FILTER (WHERE c.epoch = e.epoch) FROM checkpoints "
            "AS c WHERE c.execution_id = e.execution_id)"
        ).fetchall()
        assert not wrong, f"(epoch, seq) went back: {wrong}"


def stored_versions(database: Path, execution: str) -> list[tuple[int, int]]:
    """(epoch, seq) of every checkpoint of an execution, in order."""
    with closing(apsw.Connection(str(database))) as connection:
        found: list[Any] = connection.execute(
            "SELECT epoch, seq FROM checkpoints WHERE execution_id = ? ORDER BY epoch, seq",
            (execution,),
        ).fetchall()
    return found
