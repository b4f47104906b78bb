"""The stores that imports go to."""

from tests.support.framework_places import file_place, place

__all__ = ["file_place", "place"]
