"""What a Redis store answers about many executions: lists and sums, in order of id.

The ids of all executions are in :data:`~livingai.stores.redis.keys.BUCKETS` sorted sets, which are
read side by side and merged.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    RecordRefusedError,
    StoreError,
    StoreUnavailableError,
)
from livingai.node import NodeField
from livingai.stores.base import CostLine, ExecutionFilter, ExecutionInfo, StoredNode
from livingai.stores.checked import damaged_line, execution_line
from livingai.stores.redis.keys import BUCKETS, Keys, as_bytes, parse_version, version
from livingai.stores.redis.link import Command, Link, Script
from livingai.stores.redis.rows import number, parsing, read_wire, standing_fields
from livingai.stores.standing import is_life, standing

_log = logging.getLogger("livingai.stores")
#: Executions whose lines are fetched at a time.
_LINES: Final = 200
_LINE: Final = (
    "v", "node", "status", "created", "updated", "nodes", "checkpoints", "bytes", "life", "error",
    "entered", "ended", "told",
)  # fmt: skip
_GROUPS: Final = ("execution", "name", "day")


class RedisListing:
    """Lists and sums over the executions of a store, on a connection."""

    def __init__(
        self,
        link: Callable[[], Link],
        keys: Keys,
        nodes: Callable[[str], Iterator[StoredNode]],
    ) -> None:
        """``nodes`` reads the nodes of one execution."""
        self._link = link
        self._keys = keys
        self._nodes = nodes
        self._keep = Script("keep")

    def _ids(self, after: str | None, prefix: str, expected: int) -> Iterator[str]:
        """Ids in order, from all buckets; ``expected`` is about how many will be looked at."""
        start = as_bytes(prefix)
        low = b"[" + start if start else b"-"
        if after is not None and as_bytes(after) >= start:
            low = b"(" + as_bytes(after)
        high = b"(" + start + b"\xff" if start else b"+"  # no UTF-8 holds that byte
        count = min(1000, max(8, 3 * expected // BUCKETS))

        def command(index: bytes, low: bytes) -> Command:
            return Command(index, ("ZRANGEBYLEX", index, low, high, "LIMIT", 0, count))

        def bucket(index: bytes, page: list[bytes]) -> Iterator[bytes]:
            while page:
                yield from page
                if len(page) < count:
                    return
                page = self._link().one(command(index, b"(" + page[-1]))

        indexes = self._keys.ids
        pages = self._link().many([command(index, low) for index in indexes])
        merged = heapq.merge(*(bucket(*pair) for pair in zip(indexes, pages, strict=True)))
        return _texts(merged)

    def list_executions(
        self, after: str | None, limit: int, prefix: str, where: ExecutionFilter | None
    ) -> list[ExecutionInfo]:
        """A page of executions in order of id, starting behind ``after``."""
        found: list[ExecutionInfo] = []
        if limit < 1:
            return found
        if limit == 1 and prefix and after is None and where is None:
            found = [info for info, _ in self._lines([prefix])]  # none could come before it
        if not found:
            ids = self._ids(after, prefix, limit)
            while len(found) < limit and (some := _take(ids, min(_LINES, 2 * limit))):
                found += [info for info, node in self._lines(some) if self._fits(info, node, where)]
        return found[:limit]

    def _lines(self, ids: list[str]) -> Iterator[tuple[ExecutionInfo, bytes]]:
        """Lines of executions that are there, and the id of the newest node of each."""
        keys = [self._keys.of(execution_id).run for execution_id in ids]
        lines = self._link().each([Command(key, ("HMGET", key, *_LINE)) for key in keys])
        for execution_id, values in zip(ids, lines, strict=True):
            if isinstance(values, RecordRefusedError):  # a key of another type than ours
                yield damaged_line(execution_id, str(values)), b""
            elif isinstance(values, Exception):
                raise values
            elif values[0] is not None:
                line = dict(zip(_LINE, values, strict=True))
                try:
                    with parsing(execution_id):
                        if line["told"] != line["v"]:
                            line.update(self._settle(execution_id, line["v"]))
                        info = _line(execution_id, line)
                except StoreUnavailableError:
                    raise
                except (CorruptRecordError, StoreError) as error:
                    info = damaged_line(execution_id, str(error))
                yield info, line["node"] or b""

    def last_life(self, execution_id: str, newest: bytes) -> bytes:
        """The version of the newest record of a life in a run that an earlier livingai wrote to
        last; "" where there is none. ``newest`` is the version of its newest write."""
        return self._settle(execution_id, newest).get("life", b"")

    def _settle(self, execution_id: str, newest: bytes) -> dict[str, bytes]:
        """Fields of the line of a run that an earlier livingai wrote: it did not note the last life
        apart. They are noted now, for the next time."""
        last: StoredNode | None = None
        try:
            for node in self._nodes(execution_id):
                if is_life(node.wire):
                    last = max(last or node, node, key=lambda each: (each.epoch, each.seq))
        except CorruptRecordError:  # a list is not where that should be found out
            return {}
        if last is None:
            fields = {"life": b"", "told": newest}
        else:
            _, error, entered, ended = standing_fields(standing(last.wire))
            fields = {
                "life": version(last.epoch, last.seq).encode(),
                "status": as_bytes(last.wire[NodeField.STATUS]),
                "error": error.encode(), "entered": entered.encode(), "ended": ended.encode(),
                "told": newest,
            }  # fmt: skip
        keys = self._keys.of(execution_id)
        pairs = [part for pair in fields.items() for part in pair]
        with suppress(StoreError):  # a replica, perhaps; the answer is right all the same
            self._link().one(
                Command(keys.run, [len(keys), *keys, "settle", newest, *pairs], self._keep)
            )
        return fields

    def _fits(self, info: ExecutionInfo, node_id: bytes, where: ExecutionFilter | None) -> bool:
        if where is None:
            return True
        if where.statuses and info.status not in where.statuses:
            return False
        if where.updated_after is not None and not info.updated_at > where.updated_after:
            return False
        if where.updated_before is not None and not info.updated_at < where.updated_before:
            return False
        if not where.metadata:
            return True
        key = self._keys.of(info.execution_id).run
        stored = self._link().one(Command(key, ("HGET", key, b"w:" + node_id)))
        try:
            wire = read_wire(info.execution_id, stored) if stored is not None else None
        except CorruptRecordError:
            return False  # what it has is not known, and the others are asked for, too
        metadata = wire[NodeField.METADATA] if wire is not None else {}
        return isinstance(metadata, dict) and all(
            key in metadata and _is_same(metadata[key], value)
            for key, value in where.metadata.items()
        )

    def costs(self, group: str, prefix: str) -> list[CostLine]:
        """Sums of nodes by execution, name or day."""
        if group not in _GROUPS:
            raise ConfigurationError(f"costs are grouped by execution, name or day, not {group!r}")
        sums: dict[str, list[float]] = {}
        for execution_id in self._ids(None, prefix, _LINES):
            for node in self._nodes(execution_id):
                wire = node.wire
                line = sums.setdefault(_group(group, wire), [0, 0, 0.0])
                line[0] += 1
                tokens = wire[NodeField.COST_TOKENS]
                line[1] += tokens if isinstance(tokens, int) and abs(tokens) < 1 << 63 else 0
                line[2] += number(wire[NodeField.LATENCY_MS])
        return [
            CostLine(name, int(sums[name][0]), int(sums[name][1]), sums[name][2])
            for name in sorted(sums)
        ]


def _line(execution_id: str, line: dict[str, bytes]) -> ExecutionInfo:
    epoch, seq = parse_version(line["v"])
    return execution_line(
        ExecutionInfo(
            execution_id,
            epoch,
            seq,
            nodes=int(line["nodes"]),
            checkpoints=int(line["checkpoints"]),
            stored_bytes=int(line["bytes"]),
            created_at=float(line["created"]),
            updated_at=float(line["updated"]),
            status=line["status"].decode(),
            is_run=bool(line["life"]),
            error=(line["error"] or b"").decode(),
            entered_at=float(line["entered"]) if line["entered"] else None,
            ended_at=float(line["ended"]) if line["ended"] else None,
        )
    )


def _group(group: str, wire: list[Any]) -> str:
    if group == "execution":
        return str(wire[NodeField.EXECUTION_ID])
    if group == "name":
        metadata = wire[NodeField.METADATA]
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return name if isinstance(name, str) else str(wire[NodeField.TYPE])
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(wire[NodeField.CREATED_AT]))
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


def _is_same(found: object, wanted: object) -> bool:
    """Equality of plain values; True is not 1."""
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted


def _texts(names: Iterable[bytes]) -> Iterator[str]:
    for name in names:
        try:
            yield name.decode()
        except UnicodeDecodeError:  # another program's: it cannot be asked for
            _log.warning("an index of executions has the id %r, which is no text", name[:80])


def _take(ids: Iterable[str], count: int) -> list[str]:
    return [name for _, name in zip(range(count), ids, strict=False)]
