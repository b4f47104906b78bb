"""Conversations: as in the store in memory, shared by processes, whole after any death."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai.conversation_store")

from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage

from livingai import ExecutionNode
from livingai.adapters.pydantic_ai import LivingAIConversationStore
from livingai.adapters.pydantic_ai.chains import locate
from livingai.adapters.pydantic_ai.conversation_log import ConversationLog
from livingai.adapters.shared_log import SharedLog
from livingai.errors import CorruptRowError, StateEncodingError
from tests.frameworks.pydantic_ai import conversing
from tests.frameworks.pydantic_ai.conversing import said, texts
from tests.support.framework_places import other_process, refuses_odd_places
from tests.support.place import Place

NAMES = ("a", "b/..", "ä" * 200)


# -- as the store in memory --


class Twins:
    """One random life, of the store in memory and of ours: the same answers and the same errors.
    Identifiers and revisions are made by the caller, so both have the same."""

    def __init__(self, mine: ConversationStore, seed: int) -> None:
        self.stores = (InMemoryConversationStore(), mine)
        self.random = random.Random(seed)
        self.entries: list[str] = []
        self.count = 0
        self.conflicts = 0

    async def both(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """The answer of both; the error of both becomes None."""
        answers: list[Any] = []
        for store in self.stores:
            try:
                answers.append(await getattr(store, method)(*arguments, **keywords))
            except (ConversationConflict, KeyError) as error:
                answers.append(type(error))
        assert answers[0] == answers[1], (method, arguments, keywords)
        if answers[0] in (ConversationConflict, KeyError):
            self.conflicts += 1
            return None
        return answers[0]

    def fresh(self) -> str:
        """An id that sorts in no way."""
        self.count += 1
        return f"{self.random.randrange(10**6):06d}-{self.count}"

    async def write(self) -> None:
        """Save, branch or fork something, perhaps with what is out of date."""
        name = self.random.choice(NAMES)
        stored = await self.both("read_record", name)
        parent = stored.head_id if stored else None
        if self.entries and self.random.random() < 0.25:
            parent = self.random.choice(self.entries)
            if not await self._is_whole(parent):
                return  # a deletion has taken it, which ours does if nobody has forked from there
        new = []
        for _ in range(self.random.randrange(4)):
            new.append(ConversationEntry(
                id=self.fresh(), parent_id=parent, message=said(f"text {self.count}")
            ))  # fmt: skip
            parent = new[-1].id
        left = stored.branches if stored else []
        record = ConversationRecord(
            conversation_id=name, head_id=parent, scope=self.random.choice([None, "x", "y"]),
            usage=RunUsage(requests=self.count, details={"d": self.count}), revision=self.fresh(),
            branches=left, forked_from=self.random.choice([None, "a"]),
        )  # fmt: skip
        expected = stored.revision if stored else None
        if self.random.random() < 0.15:
            expected = self.random.choice([None, "old"])
        before = self.conflicts
        await self.both("write_record", record, new_entries=new, expected_revision=expected)
        if self.conflicts == before:
            self.entries += [each.id for each in new]

    async def _is_whole(self, entry_id: str | None) -> bool:
        try:
            await self.stores[0].read_history(entry_id)
        except KeyError:
            return False
        return True

    async def delete(self) -> None:
        """Delete a conversation, perhaps with what is out of date."""
        name = self.random.choice(NAMES)
        stored = await self.both("read_record", name)
        revision = stored.revision if stored and self.random.random() < 0.8 else "old"
        await self.both("delete_record", name, expected_revision=revision)

    async def look(self) -> None:
        """At everything."""
        for scope in (None, "x", "z"):
            for limit in (None, 0, 2):
                await self.both("read_records", scope=scope, limit=limit)
        for name in NAMES:
            record = await self.both("read_record", name)
            for limit in (None, 0, 1, 3):
                await self.both("read_history", record and record.head_id, limit=limit)
        await self.both("read_entry", "no such entry")


@pytest.mark.parametrize("turn", range(2))
async def test_a_random_life_is_as_in_memory(
    place: Place, turn: int, request: pytest.FixtureRequest
) -> None:
    seed = int(request.config.getoption("hypothesis_seed") or random.randrange(10**6)) + turn
    print(f"seed: {seed}")
    async with place.engine() as engine:
        twins = Twins(LivingAIConversationStore(engine), seed)
        for step in range(48):
            await (twins.delete() if twins.random.random() < 0.12 else twins.write())
            if step % 6 == 5:
                await twins.look()
        assert twins.conflicts
        # What is kept in memory of this process says the same as the store.
        twins.stores = (twins.stores[0], LivingAIConversationStore(engine))
        await twins.look()


async def test_the_conversations_of_an_agent(place: Place) -> None:
    async with place.engine() as engine:
        store = LivingAIConversationStore(engine)
        agent = Agent(TestModel(custom_output_text="yes"))
        assert await store.load("c") is None
        for number in range(3):
            conversation = await store.load("c") or Conversation(conversation_id="c")
            result = await agent.run(f"question {number}", conversation=conversation)
            stored = await store.save(result, scope="user-1")
            assert [each.message for each in stored] == result.new_messages()
        loaded = await store.load("c", scope="user-1")
        assert loaded is not None
        assert loaded.messages == result.all_messages()
        assert loaded.usage == result.conversation.usage
        assert await store.load("c", scope="user-2") is None
        short = await store.load("c", limit=2)
        assert short is not None
        assert short.messages == loaded.messages[-2:]
        # A branch leaves what it left to be branched back to; a fork shares.
        entries = await store.load_entries("c")
        assert entries is not None
        branch = await store.branch("c", at=2, expected_revision=loaded.revision)
        assert branch.messages == loaded.messages[:2]
        back = await store.branch("c", from_entry=entries[-1].id, expected_revision=branch.revision)
        assert back.messages == loaded.messages
        fork = await store.fork("c", at=4, new_conversation_id="d", scope="user-2")
        result = await agent.run("what else?", conversation=fork)
        await store.save(result)
        assert len((await store.load_entries("d")) or []) == 6
        listed = await store.list_conversations()
        assert [each.conversation_id for each in listed] == ["d", "c"]
        assert [each.conversation_id for each in await store.list_conversations(scope="user-1")] \
            == ["c"]  # fmt: skip
        with pytest.raises(UserError, match="negative"):
            await store.list_conversations(limit=-1)


async def test_what_a_paused_run_waits_for_comes_back(place: Place) -> None:
    async with place.engine() as engine:
        store = LivingAIConversationStore(engine)
        waiting = DeferredToolRequests(
            approvals=[ToolCallPart("pay", {"amount": 5}, tool_call_id="call-1")],
            metadata={"call-1": {"why": "large"}},
        )
        conversation = Conversation(
            conversation_id="c", messages=[said("pay")], deferred_tool_requests=waiting
        )
        await store.save(conversation)
        loaded = await LivingAIConversationStore(engine).load("c")
        assert loaded is not None
        assert loaded.deferred_tool_requests == waiting


# -- several processes --


def test_what_one_process_saves_another_reads_at_once(place: Place) -> None:
    one, two = other_process(place), other_process(place)
    expected = []
    for number in range(4):
        for agent, other in ((one, two), (two, one)):
            expected += [f"{number}-{agent.pid}", "and"]
            assert agent.call(conversing.say, "c", expected[-2:]) == "saved"
            assert other.call(conversing.history, "c") == expected
    one.call(conversing.delete, "c")
    assert two.call(conversing.history, "c") is None
    assert two.call(conversing.say, "c", ["anew"]) == "saved"
    assert one.call(conversing.history, "c") == ["anew"]


def test_of_processes_that_save_at_one_revision_one_succeeds(place: Place) -> None:
    agents = [other_process(place) for _ in range(3)]
    expected: list[str] = []
    for turn in range(6):
        for agent in agents:
            agent.call(conversing.hold, "c")
        for agent in agents:
            agent.send(conversing.save_held, [f"{turn}-{agent.pid}"])
        told = [agent.receive() for agent in agents]
        assert sorted(told) == ["conflict", "conflict", "saved"]
        expected.append(f"{turn}-{agents[told.index('saved')].pid}")
        for agent in agents:
            assert agent.call(conversing.history, "c") == expected


def test_each_save_that_succeeded_is_in_the_history_once(place: Place) -> None:
    agents = [other_process(place) for _ in range(3)]
    for name, agent in zip("xyz", agents, strict=True):
        agent.send(conversing.say_again_and_again, "c", name, 15)
    conflicts = [agent.receive() for agent in agents]
    history = agents[0].call(conversing.history, "c")
    assert sorted(history) == sorted(f"{name}{n}" for name in "xyz" for n in range(15))
    for name in "xyz":
        assert [each for each in history if each[0] == name] == [f"{name}{n}" for n in range(15)]
    assert sum(conflicts), "they were never in each other's way"


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
async def test_a_save_that_was_killed_is_there_as_a_whole_or_not_at_all(
    place: Place, writes: int
) -> None:
    """Three entries and the record are four writes."""
    told = place.folder / "told"
    one = other_process(place)
    assert one.call(conversing.say, "c", ["before"]) == "saved"
    one.send(conversing.die_saving, "c", ["x", "y", "z"], writes, str(told))
    assert one.died() == -9
    entries = told.read_text().split()
    assert len(entries) == 3
    async with place.engine() as engine:
        store = LivingAIConversationStore(engine)
        loaded = await store.load("c")
        assert loaded is not None
        whole = writes == 4
        assert texts(loaded.messages) == ["before", *(["x", "y", "z"] if whole else [])]
        for entry_id in entries:
            if whole:
                assert (await store.read_entry(entry_id)).id == entry_id
            else:
                with pytest.raises(KeyError):
                    await store.read_entry(entry_id)
                head = ConversationRecord(conversation_id="fork", head_id=entry_id)
                with pytest.raises(ConversationConflict):
                    await store.write_record(head, expected_revision=None)
        loaded.messages.append(said("next"))
        await store.save(loaded)
        again = await LivingAIConversationStore(engine).load("c")
        assert again is not None
        assert texts(again.messages)[-1] == "next"


# -- deleting --


async def stored_nodes(engine: Any) -> list[str]:
    """The ids of all nodes of all conversations."""
    page = await engine.executions(prefix="pydantic-ai:", limit=1000)
    return [node.id for each in page for node in await engine.nodes(each.execution_id)]


async def test_a_deletion_gives_the_space_back(place: Place) -> None:
    async with place.engine() as engine:
        store = LivingAIConversationStore(engine)
        conversation = Conversation(conversation_id="c")
        for number in range(30):
            conversation.messages.append(said(f"text {number} " * 50))
            [entry] = await store.save(conversation)
        assert len(await stored_nodes(engine)) == 60
        await store.delete("c")
        assert await store.load("c") is None
        with pytest.raises(KeyError):
            await store.read_entry(entry.id)
        [left] = await stored_nodes(engine)
        assert "/save/" in left
        await store.save(Conversation(conversation_id="c", messages=[said("anew")]))
        with pytest.raises(KeyError):
            await store.read_entry(entry.id)
        assert len(await stored_nodes(engine)) == 2


async def test_forks_keep_what_they_share(place: Place) -> None:
    one = other_process(place)
    one.call(conversing.say, "c", ["1", "2", "3"])
    assert one.call(conversing.fork, "c", "d", 2) == ["1", "2"]
    assert one.call(conversing.fork, "d", "e", 1) == ["1"]
    one.call(conversing.say, "e", ["other"])
    one.call(conversing.delete, "c")
    one.call(conversing.delete, "d")
    two = other_process(place)
    assert two.call(conversing.history, "c") is None
    assert two.call(conversing.history, "e") == ["1", "other"]
    one.call(conversing.say, "c", ["anew"])
    assert two.call(conversing.history, "e") == ["1", "other"]
    assert two.call(conversing.history, "c") == ["anew"]


async def test_a_fork_of_what_was_deleted_meanwhile_is_in_conflict(place: Place) -> None:
    one = other_process(place)
    async with place.engine() as engine:
        store = LivingAIConversationStore(engine)
        [entry] = await store.save(Conversation(conversation_id="c", messages=[said("1")]))
        one.call(conversing.delete, "c")
        fork = ConversationRecord(conversation_id="d", head_id=entry.id)
        with pytest.raises(ConversationConflict):
            await store.write_record(fork, expected_revision=None)
        assert await store.read_record("d") is None


async def test_what_a_killed_deletion_left_is_gone(place: Place) -> None:
    one = other_process(place)
    async with place.engine() as engine:
        store = LivingAIConversationStore(engine)
        [entry] = await store.save(Conversation(conversation_id="c", messages=[said("1")]))
        found = await locate(SharedLog(engine), entry.id)
        assert found is not None
        one.send(conversing.die_deleting, "c")
        assert one.died() == -9
        assert len(await stored_nodes(engine)) == 3, "it has given the space back"
        assert await store.load("c") is None
        with pytest.raises(KeyError):
            await store.read_entry(entry.id)
        assert not await ConversationLog(SharedLog(engine), None).share(found)
        await store.save(Conversation(conversation_id="c", messages=[said("anew")]))
        assert len(await stored_nodes(engine)) == 2
        assert await store.load_entries("c", limit=5) is not None


# -- refusals --


async def test_what_cannot_work_is_refused(file_place: Place, tmp_path: Path) -> None:
    del tmp_path
    async with file_place.engine() as engine:
        refuses_odd_places(LivingAIConversationStore, engine)
        store = LivingAIConversationStore(engine)
        odd = Conversation(conversation_id="c", messages=[said("1")])
        odd.messages[0].metadata = {"x": object()}
        with pytest.raises(StateEncodingError, match="'c' cannot be stored"):
            await store.save(odd)
        assert await store.load("c") is None
        node = ExecutionNode("pydantic-ai:conversation/o", id="pydantic-ai:conversation/o/save/1")
        await engine.save(node, "x")
        with pytest.raises(CorruptRowError, match="another program"):
            await store.load("o")
