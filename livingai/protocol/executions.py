"""Pages of executions, and the filter that a page is asked with, on their way between processes.

A filter travels as ``[statuses, updated_after, updated_before, metadata]``, an execution as a list
of the fields of :class:`~livingai.stores.records.ExecutionInfo`, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from livingai.errors import ConfigurationError
from livingai.stores.records import ExecutionFilter, ExecutionInfo

#: The largest page: its answer is one message.
MAX_PAGE: Final = 10_000
_FIELDS: Final = tuple(field.name for field in fields(ExecutionInfo))
_values = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """Some executions in order of id. ``next_after`` is what the next page is asked with as
    ``after``; None: this page is the last one."""

    executions: tuple[ExecutionInfo, ...]
    next_after: str | None = None

    def __iter__(self) -> Iterator[ExecutionInfo]:
        return iter(self.executions)

    def __len__(self) -> int:
        return len(self.executions)


def page_request(
    after: str | None, limit: int, prefix: str, where: ExecutionFilter | None
) -> list[Any]:
    """The arguments of the request for a page: one execution more than ``limit``, which shows
    whether another page follows.

    Raises:
        ConfigurationError: ``limit`` is not between 1 and :data:`MAX_PAGE`, or the filter compares
            metadata with something other than a text, a number or a bool.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise ConfigurationError(f"a page has 1 to {MAX_PAGE} executions, not {limit!r:.100}")
    arguments = [after, limit + 1, prefix]
    return arguments if where is None else [*arguments, _filter_to_wire(where)]


def _filter_to_wire(where: ExecutionFilter) -> list[Any]:
    for key, value in where.metadata.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            raise ConfigurationError(
                f"a filter compares metadata with a text, a number or a bool, not {key!r:.100} "
                f"with {value!r:.100}"
            )
    statuses = [str(status) for status in where.statuses]
    return [statuses, where.updated_after, where.updated_before, dict(where.metadata)]


def filter_from_wire(wire: Sequence[Any] | None) -> ExecutionFilter | None:
    """The filter of a request; None: there is none.

    Raises:
        ConfigurationError: it names a status that no execution can have.
    """
    if wire is None:
        return None
    statuses, updated_after, updated_before, metadata = wire
    return ExecutionFilter(tuple(statuses), updated_after, updated_before, metadata)


def executions_to_wire(executions: Sequence[ExecutionInfo]) -> list[list[Any]]:
    """The answer to the request of a page."""
    return [list(_values(info)) for info in executions]


def executions_from_wire(answer: Any) -> list[ExecutionInfo]:
    """The executions of an answer. Fields that a newer service adds are ignored.

    Raises:
        TypeError: the answer is no list of executions.
    """
    return [ExecutionInfo(*line[: len(_FIELDS)]) for line in answer]


def page_of(found: list[ExecutionInfo], limit: int) -> ExecutionPage:
    """The page of at most ``limit`` executions that an answer to :func:`page_request` is."""
    page = tuple(found[:limit])
    return ExecutionPage(page, page[-1].execution_id if len(found) > limit else None)
