"""Conversations of Pydantic AI, in the test's process and in others."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart

from livingai import CheckpointEngine
from livingai.adapters.owned_log import OwnedLog
from livingai.adapters.pydantic_ai import LivingAIConversationStore
from tests.support.agent_main import AgentSide


def said(text: str) -> ModelMessage:
    """A message with that text."""
    return ModelRequest(parts=[UserPromptPart(text)])


def texts(messages: list[ModelMessage]) -> list[str]:
    """Inverse of :func:`said`."""
    return [str(part.content) for each in messages for part in each.parts]


def _store(side: AgentSide) -> LivingAIConversationStore:
    if side.runner is None:
        side.runner = LivingAIConversationStore(side.engine)
    store: LivingAIConversationStore = side.runner
    return store


async def _say(store: Any, name: str, words: list[str]) -> str:
    conversation = await store.load(name) or Conversation(conversation_id=name)
    conversation.messages.extend(map(said, words))
    try:
        await store.save(conversation)
    except ConversationConflict:
        return "conflict"
    return "saved"


def say(side: AgentSide, name: str, words: list[str]) -> str:
    """Add messages to what is stored; how that ended."""
    return asyncio.run(_say(_store(side), name, words))


def say_again_and_again(side: AgentSide, name: str, who: str, count: int) -> int:
    """Save so many messages, each again until it is not in conflict; how many conflicts."""

    async def saying() -> int:
        conflicts = 0
        for number in range(count):
            while await _say(_store(side), name, [f"{who}{number}"]) == "conflict":
                conflicts += 1
        return conflicts

    return asyncio.run(saying())


def hold(side: AgentSide, name: str) -> None:
    """Load a conversation, to be saved later."""
    store = _store(side)
    loaded = asyncio.run(store.load(name))
    side.held = loaded or Conversation(conversation_id=name)  # type: ignore[attr-defined]


def save_held(side: AgentSide, words: list[str]) -> str:
    """Save what was loaded before, with messages added; how that ended."""
    conversation = side.held  # type: ignore[attr-defined]
    conversation.messages.extend(map(said, words))
    try:
        asyncio.run(_store(side).save(conversation))
    except ConversationConflict:
        return "conflict"
    return "saved"


def delete(side: AgentSide, name: str) -> None:
    """Delete a conversation."""
    asyncio.run(_store(side).delete(name))


def die_deleting(side: AgentSide, name: str) -> None:
    """Delete a conversation and be killed before its space is given back."""

    async def die(self: Any, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    CheckpointEngine.drop_nodes = die  # type: ignore[method-assign, assignment]
    delete(side, name)


def fork(side: AgentSide, name: str, new: str, at: int) -> list[str]:
    """Fork a conversation; what the fork has."""
    made = asyncio.run(_store(side).fork(name, at=at, new_conversation_id=new))
    return texts(made.messages)


def history(side: AgentSide, name: str) -> list[str] | None:
    """What a conversation has; None: there is none."""
    loaded = asyncio.run(_store(side).load(name))
    return None if loaded is None else texts(loaded.messages)


def die_saving(side: AgentSide, name: str, words: list[str], writes: int, told: str) -> None:
    """Save messages and be killed right after so many writes of that save. The ids of the entries
    are written to a file before."""
    count = 0
    append_under = OwnedLog.append_under

    async def counting(self: OwnedLog, *arguments: Any, **keywords: Any) -> bool:
        nonlocal count
        done = await append_under(self, *arguments, **keywords)
        count += 1
        if count == writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    write_record = LivingAIConversationStore.write_record

    def tell(entries: list[str]) -> None:
        Path(told).write_text("\n".join(entries))

    async def telling(self: Any, record: Any, *, new_entries: Any, expected_revision: Any) -> None:
        tell([each.id for each in new_entries])
        await write_record(
            self, record, new_entries=new_entries, expected_revision=expected_revision
        )

    OwnedLog.append_under = counting  # type: ignore[method-assign]
    LivingAIConversationStore.write_record = telling  # type: ignore[method-assign, assignment]
    say(side, name, words)
