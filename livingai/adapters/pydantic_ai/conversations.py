"""Pydantic AI's ``ConversationStore`` on a livingai engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.pydantic_ai import saves
from livingai.adapters.pydantic_ai.chains import ConversationPlace, find_entry, read_chain
from livingai.adapters.pydantic_ai.conversation_log import ConversationLog
from livingai.adapters.pydantic_ai.saves import SavedRecord, conversation_execution
from livingai.adapters.shared_log import SharedLog
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode, Status
from livingai.outcome import Durability
from livingai.stores.records import ExecutionFilter

#: Conversations that are read at once for a list.
_AT_ONCE: Final = 32
_PAGE: Final = 1000
_STORED: Final = ExecutionFilter(statuses=(Status.SUCCESS,))


class LivingAIConversationStore(ConversationStore):
    """Conversations in an engine's store, shared by all processes that use it.

    A save is durable when it returns: it survives the death of every process, at ``durability`` (by
    default the engine's); its record and its messages are stored together, or not at all. Of
    several writers that have loaded the same revision, one succeeds. The engine stays the caller's
    to close. May be used from several event loops and threads.

    Raises:
        ConfigurationError: ``engine`` is no engine, or ``durability`` no level.
    """

    def __init__(self, engine: CheckpointEngine, *, durability: Durability | None = None) -> None:
        check_engine(engine)
        check_durability(durability)
        self._shared = SharedLog(engine)
        self._durability = durability
        self._begin()

    def _begin(self) -> None:
        """Begin as new: at first, and in a forked child, whose parent may hold any lock."""
        self._pid = os.getpid()
        self._log = ConversationLog(self._shared, self._durability)

    def _ready(self) -> None:
        if self._pid != os.getpid():
            self._begin()

    # -- reading --

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """The record of a conversation as it is now, whoever has saved it; None: there is none.

        Raises:
            CorruptRowError: another program has written it.
            LivingAIError: what became known of earlier saves of this process, and as the engine's
                reads.
        """
        self._ready()
        return (await self._log.newest(conversation_execution(conversation_id))).record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """The records, or those with a scope, newest ``updated_at`` first, and at most ``limit`` of
        them. Reads the newest save of each conversation, without its messages.

        Raises:
            CorruptRowError, LivingAIError: as :meth:`read_record`.
        """
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def newest(execution_id: str) -> SavedRecord:
            async with at_once:
                return await self._log.newest(execution_id)

        records: list[ConversationRecord] = []
        after: str | None = None
        while True:
            page = await self._shared.engine.executions(
                where=_STORED, prefix=saves.PREFIX, after=after, limit=_PAGE
            )
            found = await asyncio.gather(*(newest(each.execution_id) for each in page))
            records += [
                each.record
                for each in found
                if each.record is not None and scope in (None, each.record.scope)
            ]
            after = page.next_after
            if after is None:
                records.sort(key=lambda record: record.updated_at, reverse=True)
                return records[:limit]

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """An entry, of whichever conversation.

        Raises:
            KeyError: there is no such entry.
            CorruptRowError, LivingAIError: as :meth:`read_record`.
        """
        self._ready()
        _, entry = await find_entry(self._shared, entry_id)
        return entry

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """The entries from the first one up to ``head_id``, in order, or only the last ``limit`` of
        them, read in pages.

        Raises:
            KeyError: one of them is not in the store (any more).
            CorruptRowError, LivingAIError: as :meth:`read_record`.
        """
        return await read_chain(self._shared, head_id, limit)

    # -- writing --

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and new entries together, if the stored record is the expected one.

        Raises:
            ConversationConflict: it is not, or a message that the record's history goes through is
                not in the store (any more).
            StateEncodingError: a message or the record holds what JSON lacks.
            LivingAIError: what became known of earlier saves, and as the engine's ``save``; the
                record was not stored, or it is found at the next read.
        """
        self._ready()
        execution_id = conversation_execution(record.conversation_id)
        entries = saves.plain_entries(new_entries, record.conversation_id)
        before = await self._log.known(execution_id)
        _compare(before, record.conversation_id, expected_revision)
        foreign = await self._check_entries(execution_id, before, record, new_entries)
        for place in foreign:
            if not await self._log.share(place):
                raise ConversationConflict(record.conversation_id)
        node: ExecutionNode | None = None
        async with self._log.turns.of(execution_id):
            while True:
                end = await self._log.own(execution_id)
                if node is not None and await self._log.stored(node):
                    break  # by the attempt before, whose end was not known
                _compare(end.save, record.conversation_id, expected_revision)
                if node is None:
                    node_id = self._log.next_id(execution_id, end.save)
                    node = saves.save_node(node_id, execution_id, end.save.floor, record)
                if await self._log.append(end, node, entries, new_entries):
                    break
            if end.save.record is None and end.save.floor:
                await self._log.drop(execution_id, end.save.floor)

    async def _check_entries(
        self,
        execution_id: str,
        before: SavedRecord,
        record: ConversationRecord,
        new_entries: Sequence[ConversationEntry],
    ) -> list[ConversationPlace]:
        """See that all entries that a record needs, and did not need before, are in the store or
        new; where those of other conversations are."""
        known = {None, *(each.id for each in new_entries)}
        if before.record is not None:
            known |= {before.record.head_id, *before.record.branches}
        needed = {record.head_id, *record.branches, *(each.parent_id for each in new_entries)}
        foreign = []
        for entry_id in needed - known:
            try:
                place, _ = await find_entry(self._shared, str(entry_id))
            except KeyError as error:
                raise ConversationConflict(record.conversation_id) from error
            if place.execution_id != execution_id:
                foreign.append(place)
        return foreign

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation. Its messages are deleted with it, unless it was ever forked: then
        they stay, for the forks.

        Raises:
            ConversationConflict: the stored record is not the expected one, or there is none.
            LivingAIError: as :meth:`write_record`.
        """
        self._ready()
        execution_id = conversation_execution(conversation_id)
        _compare(await self._log.known(execution_id), conversation_id, expected_revision)
        node: ExecutionNode | None = None
        floor = 0
        async with self._log.turns.of(execution_id):
            while True:
                end = await self._log.own(execution_id)
                if node is not None and await self._log.stored(node):
                    break
                _compare(end.save, conversation_id, expected_revision)
                shares = await self._shared.nodes_between(
                    execution_id, saves.shares_range(execution_id)
                )
                floor = end.save.floor if shares.nodes else end.save.number + 1
                node_id = self._log.next_id(execution_id, end.save)
                node = saves.deletion_node(node_id, execution_id, floor)
                if await self._log.append(end, node, []):
                    break
            if floor:
                await self._log.drop(execution_id, floor)

    async def flush(self) -> None:
        """Wait until the store has all that this process has saved.

        Raises:
            RecordRefusedError: the store has refused a save for good; it is kept aside.
        """
        await self._shared.flush()


def _compare(save: SavedRecord, conversation_id: str, expected_revision: str | None) -> None:
    revision = None if save.record is None else save.record.revision
    if revision != expected_revision:
        raise ConversationConflict(conversation_id)
