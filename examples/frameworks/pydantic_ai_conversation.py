"""Two processes answer one conversation of Pydantic AI at the same time; neither loses a message.

    python examples/frameworks/pydantic_ai_conversation.py

Both load the same revision. The one that saves second is told so, loads again and goes on, and is
killed (SIGKILL) right after that save. The model needs no key and no network.
"""

import asyncio
import os
import signal
import subprocess
import sys

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.models.test import TestModel

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.pydantic_ai import LivingAIConversationStore


async def answer(who: str) -> None:
    """Answer a question in the conversation, and die."""
    engine = CheckpointEngine(SQLiteStore("conversations.db"))
    store = LivingAIConversationStore(engine)
    agent = Agent(TestModel(custom_output_text=f"{who} has answered"))
    first = True
    while True:
        conversation = await store.load("c-1") or Conversation(conversation_id="c-1")
        result = await agent.run(f"a question for {who}", conversation=conversation)
        if first:
            print(f"{who} is ready", flush=True)
            sys.stdin.readline()  # until the other one is, too
            first = False
        try:
            await store.save(result)
        except ConversationConflict:
            print(f"{who} was second, and loads again", flush=True)
            continue
        print(f"{who} has saved", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


async def read() -> list[str]:
    """What the conversation has."""
    async with CheckpointEngine(SQLiteStore("conversations.db")) as engine:
        loaded = await LivingAIConversationStore(engine).load("c-1")
        assert loaded is not None
        return [str(getattr(each.parts[0], "content", "")) for each in loaded.messages]


def main() -> None:
    """Start both, have them save at once, and read."""
    both = [
        subprocess.Popen(
            [sys.executable, __file__, who],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for who in ("Ada", "Bob")
    ]  # fmt: skip
    for each in both:
        assert each.stdout is not None
        print(f"  {each.stdout.readline().strip()}")
    for each in both:
        assert each.stdin is not None
        print(file=each.stdin, flush=True)
    for each in both:
        said, _ = each.communicate()
        print(*(f"  {line}" for line in said.splitlines()), sep="\n")
    messages = asyncio.run(read())
    print(*(f"  {line}" for line in messages), sep="\n")
    print(f"shown: both were killed, and all {len(messages)} messages of both are there")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(answer(sys.argv[1]))
    else:
        main()
