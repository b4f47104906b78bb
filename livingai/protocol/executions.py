"""Pages of executions, and the filter that a page is asked with, on their way between processes.

A filter travels as ``[statuses, updated_after, updated_before, metadata]``, an execution as a list
of the fields of :class:`~livingai.stores.records.ExecutionInfo`, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Final

from livingai.asked import as_seconds, check_count, check_text, shown
from livingai.errors import ConfigurationError
from livingai.stores.records import ExecutionFilter, ExecutionInfo

#: The largest page: its answer is one message.
MAX_PAGE: Final = 10_000
_FILTER_PARTS: Final = 4
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
        ConfigurationError: ``limit`` is no integer from 1 to :data:`MAX_PAGE`, ``prefix`` or
            ``after`` is no text, or the filter makes no sense.
    """
    check_count(limit, "limit", MAX_PAGE)
    check_text(prefix, "prefix")
    if after is not None:
        check_text(after, "after")
    if where is not None and not isinstance(where, ExecutionFilter):
        raise ConfigurationError(f"where must be an ExecutionFilter, not {shown(where)}")
    arguments = [after, limit + 1, prefix]
    return arguments if where is None else [*arguments, _filter_to_wire(where)]


def _filter_to_wire(where: ExecutionFilter) -> list[Any]:
    where.validate()
    times = [
        None if time is None else as_seconds(time, name)
        for name, time in (
            ("updated_after", where.updated_after),
            ("updated_before", where.updated_before),
        )
    ]
    return [[str(status) for status in where.statuses], *times, dict(where.metadata)]


def filter_from_wire(wire: Any) -> ExecutionFilter | None:
    """The filter of a request; None: there is none.

    Raises:
        ConfigurationError: it is no filter, or one that makes no sense.
    """
    if wire is None:
        return None
    if not isinstance(wire, list | tuple) or len(wire) != _FILTER_PARTS:
        raise ConfigurationError(
            f"the request's filter is {shown(wire)}, not {_FILTER_PARTS} parts; the agent may be "
            "of a newer livingai: run the same one in service and agent"
        )
    statuses, updated_after, updated_before, metadata = wire
    if isinstance(statuses, list):
        statuses = tuple(statuses)
    return ExecutionFilter(statuses, updated_after, updated_before, metadata)


def executions_to_wire(executions: Sequence[ExecutionInfo]) -> list[list[Any]]:
    """The answer to the request of a page."""
    return [list(_values(info)) for info in executions]


def executions_from_wire(answer: Any) -> list[ExecutionInfo]:
    """The executions of an answer. Fields that a newer service adds are ignored.

    Raises:
        TypeError: the answer is no list of executions.
    """
    if not isinstance(answer, list) or not all(isinstance(line, list) for line in answer):
        raise TypeError(f"{type(answer).__name__} is no list of lists")
    return [ExecutionInfo(*line[: len(_FIELDS)]) for line in answer]


def page_of(found: list[ExecutionInfo], limit: int) -> ExecutionPage:
    """The page of at most ``limit`` executions that an answer to :func:`page_request` is."""
    page = tuple(found[:limit])
    return ExecutionPage(page, page[-1].execution_id if len(found) > limit else None)
