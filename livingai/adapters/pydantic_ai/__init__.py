"""Pydantic AI: conversations and runs that processes share and that outlive them.

:class:`LivingAIConversationStore` takes the place of ``InMemoryConversationStore``;
:class:`LivingAIDurability` is a capability with which an agent's run goes on where it was killed.
See ``docs/frameworks/pydantic-ai.md``. The step store of pydantic-ai-harness is in
:mod:`livingai.adapters.pydantic_ai_harness`.

Raises:
    FrameworkVersionError: pydantic-ai-slim is not installed, or not in a supported version.
"""

from livingai.adapters.versions import require

require("pydantic-ai-slim", at_least="2.68", below="3", extra="pydantic-ai")

from livingai.adapters.pydantic_ai.conversations import LivingAIConversationStore  # noqa: E402
from livingai.adapters.pydantic_ai.durability import LivingAIDurability  # noqa: E402

__all__ = ["LivingAIConversationStore", "LivingAIDurability"]
