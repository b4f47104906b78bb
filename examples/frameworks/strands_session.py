"""A Strands agent's session goes on in another process.

    python examples/frameworks/strands_session.py

Needs livingai[strands]; no key, no network: the model is one of this file.
"""

import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

from strands import Agent
from strands.models import Model
from strands.session import SnapshotSessionManager

from livingai import CheckpointEngine, SQLiteStore
from livingai.adapters.strands import LivingAIStorage


class Counting(Model):
    """In place of a real model: says how many messages it was given."""

    stateful = False

    def update_config(self, **model_config: Any) -> None:
        """It has none."""

    def get_config(self) -> dict[str, Any]:
        """It has none."""
        return {}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        """It gives none."""
        raise NotImplementedError

    async def stream(
        self, messages: list[Any], *args: Any, **kwargs: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The answer."""
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": f"I know {len(messages)} message(s)"}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}


def turn() -> None:
    """One turn of the session, in a process of its own."""
    with CheckpointEngine(SQLiteStore("strands_session.db")) as engine:
        session = SnapshotSessionManager("session-1", storage=LivingAIStorage(engine))
        agent = Agent(model=Counting(), session_manager=session, agent_id="a")
        agent("hello")
        print(flush=True)


def main() -> None:
    """Three turns, each in another process."""
    for _ in range(3):
        subprocess.run([sys.executable, __file__, "turn"], check=True)
    print("shown: three processes, one session")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        turn()
    else:
        main()
