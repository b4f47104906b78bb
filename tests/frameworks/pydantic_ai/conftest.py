"""The stores that the tests of Pydantic AI run on."""

from tests.support.framework_places import file_place, place

__all__ = ["file_place", "place"]
