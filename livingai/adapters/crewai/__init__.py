"""CrewAI: where flows keep their state, checkpoints of crews, and what crews did, as nodes.

::

    persistence = LivingAIFlowPersistence(engine)
    flow = MyFlow(persistence=persistence)        # or @persist(persistence), or the factory
    provider = LivingAICheckpointProvider(engine)
    crew = Crew(..., checkpoint=CheckpointConfig(location="trip-1", provider=provider))
    LivingAIEventListener(engine, "crewai:run-1")   # tasks, tools and model calls, for the record
"""

from livingai.adapters.versions import require

require("crewai", at_least="1.15", below="2", extra="crewai")

from livingai.adapters.crewai.checkpoint_provider import (  # noqa: E402
    LivingAICheckpointProvider,
)
from livingai.adapters.crewai.event_listener import LivingAIEventListener  # noqa: E402
from livingai.adapters.crewai.flow_persistence import LivingAIFlowPersistence  # noqa: E402

__all__ = ["LivingAICheckpointProvider", "LivingAIEventListener", "LivingAIFlowPersistence"]
