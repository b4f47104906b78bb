"""The stores that these tests run on."""

from tests.support.framework_places import file_place, place

__all__ = ["file_place", "place"]
