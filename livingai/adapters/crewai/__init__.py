"""CrewAI: where flows keep their state, and what crews did, as nodes.

::

    persistence = LivingAIFlowPersistence(engine)
    flow = MyFlow(persistence=persistence)        # or @persist(persistence), or the factory
    LivingAIEventListener(engine, "crewai:run-1")   # tasks, tools and model calls, for the record
"""

from livingai.adapters.versions import require

require("crewai", at_least="1.15", below="2", extra="crewai")

from livingai.adapters.crewai.event_listener import LivingAIEventListener  # noqa: E402
from livingai.adapters.crewai.flow_persistence import LivingAIFlowPersistence  # noqa: E402

__all__ = ["LivingAIEventListener", "LivingAIFlowPersistence"]
