"""LangGraph on livingai: ``from livingai.adapters.langgraph import LivingAISaver``."""

from livingai.adapters.versions import require

require("langgraph-checkpoint", at_least="4.3", below="5", extra="langgraph")

from livingai.adapters.langgraph.saver import LivingAISaver  # noqa: E402 - behind the check

__all__ = ["LivingAISaver"]
