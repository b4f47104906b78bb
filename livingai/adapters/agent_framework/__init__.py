"""Microsoft Agent Framework: checkpoints of workflows, and histories of sessions.

::

    workflow = WorkflowBuilder(..., checkpoint_storage=LivingAICheckpointStorage(engine)).build()
    agent = Agent(client=client, context_providers=[LivingAIHistoryProvider(engine)])
"""

from livingai.adapters.versions import require

require("agent-framework-core", at_least="1.23", below="2", extra="agent-framework")

from livingai.adapters.agent_framework.checkpoint_storage import (  # noqa: E402
    LivingAICheckpointStorage,
)
from livingai.adapters.agent_framework.history_provider import (  # noqa: E402
    LivingAIHistoryProvider,
)

__all__ = ["LivingAICheckpointStorage", "LivingAIHistoryProvider"]
