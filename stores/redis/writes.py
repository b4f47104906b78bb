"""What changes a Redis store: batches, claims, deletes. Every execution's part is one script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from livingai.errors import CorruptRecordError, RecordRefusedError
from livingai.stores.base import Row, RowResult, RowStatus
from livingai.stores.redis.keys import Keys, entry, version
from livingai.stores.redis.link import Command, Link, Script
from livingai.stores.redis.rows import (
    MAX_VALUE_BYTES,
    Ready,
    blob_keys,
    make_ready,
    row_arguments,
)
from livingai.stores.shared.refusals import BASE_MISSING, fenced
from livingai.stores.shared.rows import owned


class RedisWrites:
    """The scripts that write, over the link that ``link`` opens when it is needed."""

    def __init__(self, link: Callable[[], Link], keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._scripts: dict[str, Script] = {}
        #: Most bytes that the server takes as one value; known once it was asked.
        self.value_limit = MAX_VALUE_BYTES

    def commit(self, rows: Sequence[Row]) -> list[RowResult]:
        """Write a batch, each execution's rows atomically; one result per row, in order."""
        if not rows:
            return []
        link = self._link()
        results: list[RowResult | None] = [None] * len(rows)
        groups: dict[str, list[tuple[int, Ready]]] = {}
        for number, row in enumerate(rows):
            ready = make_ready(row, self.value_limit)
            if isinstance(ready, str):
                results[number] = RowResult(RowStatus.REFUSED, row.epoch, ready)
            else:
                groups.setdefault(row.execution_id, []).append((number, ready))
        parts = [part for group in groups.values() for part in self._parts(group)]
        commands = [self._commit_command([ready for _, ready in part]) for part in parts]
        for part, reply in zip(parts, link.each(commands, durably=True), strict=True):
            for (number, _), result in zip(part, _results(part, reply), strict=True):
                results[number] = result
        return [result for result in results if result is not None]

    def _parts(self, group: list[tuple[int, Ready]]) -> Iterator[list[tuple[int, Ready]]]:
        """An execution's rows, in one piece unless a server would refuse so long a command."""
        part: list[tuple[int, Ready]] = []
        size = 0
        for item in group:
            if part and size + item[1].size > self.value_limit:
                yield part
                part, size = [], 0
            part.append(item)
            size += item[1].size
        yield part

    def _commit_command(self, part: list[Ready]) -> Command:
        writes = [ready.write for ready in part]
        execution_id = writes[0].row.execution_id
        keys = self._keys.of(execution_id)
        blobs = blob_keys(self._keys, writes)
        arguments: list[Any] = [len(keys) + len(blobs), *keys, *blobs]
        arguments += [execution_id, entry(execution_id)]
        number = len(keys)
        for write in writes:
            number += write.row.blob is not None
            arguments += row_arguments(write, number)
        return Command(keys.run, arguments, self._script("commit"))

    def _script(self, name: str) -> Script:
        found = self._scripts.get(name)
        if found is None:
            found = self._scripts[name] = Script(name)
        return found

    def _keep(self, execution_id: str, *arguments: Any) -> Any:
        keys = self._keys.of(execution_id)
        command = Command(keys.run, [len(keys), *keys, *arguments], self._script("keep"))
        (reply,) = self._link().each([command], durably=True)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def claim(self, execution_id: str, claim: str) -> int:
        """Take the execution's next epoch for ``claim``; the same claim gets the same one again."""
        epoch, newest = self._keep(execution_id, "claim", claim)
        return owned(execution_id, int(epoch), int(newest))

    def delete_execution(self, execution_id: str) -> int:
        """Remove all of an execution and fence all that wrote to it; the number of nodes."""
        return self._remove(execution_id, "delete")

    def forget(self, execution_id: str) -> bool:
        """Remove all of an execution, its owners too."""
        self._remove(execution_id, "forget")
        return True

    def _remove(self, execution_id: str, verb: str) -> int:
        blobs = self._keys.blob_prefix(execution_id)
        return int(self._keep(execution_id, verb, execution_id, entry(execution_id), blobs))

    def drop_checkpoints(self, execution_id: str, versions: Sequence[tuple[int, int]]) -> int:
        """Remove checkpoints; the number of blob bytes removed."""
        blobs = self._keys.blob_prefix(execution_id)
        names = [version(*pair) for pair in versions]
        return int(self._keep(execution_id, "drop", blobs, *names))


def _results(part: list[tuple[int, Ready]], reply: Any) -> Iterator[RowResult]:
    """The results of rows that went in one command.

    Raises:
        StoreError: the command failed, and not because of these rows.
    """
    if isinstance(reply, (RecordRefusedError, CorruptRecordError)):
        for _, ready in part:
            yield RowResult(RowStatus.REFUSED, ready.write.row.epoch, str(reply))
        return
    if isinstance(reply, Exception):
        raise reply
    for at in range(0, len(reply), 4):
        status, epoch, newest, is_deleted = reply[at : at + 4]
        reason = ""
        if status == RowStatus.BASE_MISSING:
            reason = BASE_MISSING
        elif status == RowStatus.FENCED:
            reason = fenced(newest, epoch, deleted=bool(is_deleted))
        yield RowResult(RowStatus(status), epoch, reason)
