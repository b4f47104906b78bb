"""LangGraph on livingai: ``from livingai.adapters.langgraph import LivingAISaver``."""

from livingai.adapters.langgraph.saver import LivingAISaver

__all__ = ["LivingAISaver"]
