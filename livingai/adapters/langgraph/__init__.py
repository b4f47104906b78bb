"""LangGraph on livingai.

================================  ==================================================================
:class:`LivingAISaver`            the checkpointer: ``builder.compile(checkpointer=...)``
:class:`LivingAIStore`            long-term memory: ``builder.compile(store=...)``
:class:`LivingAICache`            the cache of nodes: ``builder.compile(cache=...)``
:class:`LivingAICallbackHandler`  records runs as nodes: ``graph.invoke(..., {"callbacks": [...]})``
:func:`durable_tool`              a tool that is called at most once, whatever dies
:func:`drain_on_sigterm`          SIGTERM ends graphs behind the superstep that they are in
================================  ==================================================================

``docs/frameworks/langgraph.md`` says what is guaranteed and what is not.
"""

from livingai.adapters.versions import require

require("langgraph", at_least="1.2", below="2", extra="langgraph")
require("langgraph-checkpoint", at_least="4.3", below="5", extra="langgraph")

from livingai.adapters.langgraph.cache import LivingAICache  # noqa: E402 - behind the check
from livingai.adapters.langgraph.callbacks import LivingAICallbackHandler  # noqa: E402
from livingai.adapters.langgraph.drain import drain_on_sigterm  # noqa: E402
from livingai.adapters.langgraph.saver import LivingAISaver  # noqa: E402
from livingai.adapters.langgraph.store import LivingAIStore  # noqa: E402
from livingai.adapters.langgraph.tools import durable_tool  # noqa: E402

__all__ = [
    "LivingAICache",
    "LivingAICallbackHandler",
    "LivingAISaver",
    "LivingAIStore",
    "drain_on_sigterm",
    "durable_tool",
]
