"""The stores that the tests of Pydantic AI's harness run on."""

from tests.support.framework_places import place

__all__ = ["place"]
