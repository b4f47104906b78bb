"""The stores that LangGraph's tests run on."""

from tests.support.framework_places import place

__all__ = ["place"]
