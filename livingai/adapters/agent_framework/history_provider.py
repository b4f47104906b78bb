"""Agent Framework's ``HistoryProvider``: the messages of sessions.

A session is the execution ``agent-framework:history/<namespace>/<session>``. What an agent's run
adds is one entry (:mod:`livingai.adapters.shared_values`), the messages in the node's output: all
of a run's messages are there, or none. Entries are in the order in which they were added; a run
that was begun with the messages of another one is behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from agent_framework import HistoryProvider, Message

from livingai.adapters.names import execution_name
from livingai.adapters.shared_values import SharedValues
from livingai.adapters.steps import take
from livingai.asked import check_text, shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import ConfigurationError, CorruptRowError
from livingai.outcome import Durability


class LivingAIHistoryProvider(HistoryProvider):
    """Keeps messages in an engine's store; the engine stays the caller's to close.

    Args:
        engine: where to.
        source_id: as of all of Agent Framework's providers.
        namespace: sessions of different namespaces have nothing to do with each other.
        durability: what each save waits for; by default the engine's level.
        skip_excluded: leave messages out that a compaction has marked as excluded.
        options: those of ``HistoryProvider``, such as ``store_inputs=False``.

    Raises:
        ConfigurationError: an argument that cannot work.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "livingai_history"
    #: The session of agents that are run without one, as with Agent Framework's own provider.
    DEFAULT_SESSION: ClassVar[str] = "default"

    def __init__(
        self,
        engine: CheckpointEngine,
        *,
        source_id: str = DEFAULT_SOURCE_ID,
        namespace: str = "default",
        durability: Durability | None = None,
        skip_excluded: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(source_id, **options)
        check_text(namespace, "namespace")
        self._values = SharedValues(engine, durability)
        self._namespace = namespace
        self.skip_excluded = skip_excluded

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """All messages of a session, of all processes, the oldest first.

        Raises:
            CorruptRowError: another program has written there.
            LivingAIError: as :meth:`livingai.CheckpointEngine.nodes_between`.
        """
        execution = self._execution(session_id)
        entries = await take(self._values.entries(execution, "messages", states=False))
        messages: list[Message] = []
        for entry in entries:
            try:
                messages += map(_message, entry.node.output)
            except Exception as error:  # whatever a hostile row makes the framework raise
                raise CorruptRowError(
                    f"{entry.node.id} holds no messages of Agent Framework: {shown(error)}"
                ) from error
        if self.skip_excluded:
            return [each for each in messages if not each.additional_properties.get("_excluded")]
        return messages

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add messages to a session; they then survive the death of this process.

        Raises:
            StateEncodingError: a message holds what cannot be stored; nothing was saved.
            LivingAIError: as :meth:`livingai.CheckpointEngine.save`, and what became known of
                earlier saves.
        """
        if not messages:
            return
        about = {"framework": "agent-framework", "kind": "messages"}
        output = [message.to_dict() for message in messages]
        await take(self._values.put(
            self._execution(session_id), "messages", None, output=output, metadata=about
        ))  # fmt: skip

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the store has all that this process has saved through the engine.

        Raises:
            FlushTimeoutError: not within ``timeout`` seconds; nothing is lost.
            RecordRefusedError: the store has refused something for good; it is in the quarantine.
        """
        await self._values.log.flush(timeout)

    def _execution(self, session_id: str | None) -> str:
        name = self.DEFAULT_SESSION if session_id is None else session_id
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"a session's id is text or None, not {shown(session_id)}")
        return execution_name("agent-framework", "history", self._namespace, name)


def _message(found: Any) -> Message:
    if not isinstance(found, dict) or not isinstance(found.get("role"), str):
        raise ValueError("a message is a dict with a role")
    return Message.from_dict(found)
