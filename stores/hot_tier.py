"""The hot tier of a tiered store: used while it works, and made complete from the cold one.

A store error leaves it out for a pause that doubles up to ``_LAST_PAUSE_S``; meanwhile every call
takes its other way. A damaged or evicted record is no trouble of the tier: cold has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from livingai.errors import CorruptRecordError, StoreError, StoreUnavailableError
from livingai.stores.base import ExecutionInfo, Store
from livingai.stores.copying import copy_execution, find_execution, same_content

_log = logging.getLogger("livingai.stores")
_FIRST_PAUSE_S: Final = 0.5
_LAST_PAUSE_S: Final = 30.0
T = TypeVar("T")


class HotTier:
    """The hot store ``store`` in front of ``cold``, see the rules of :mod:`livingai.stores.tiered`.
    An execution whose blobs are larger than ``fill_bytes`` in all is not copied to it."""

    def __init__(self, store: Store, cold: Store, fill_bytes: int) -> None:
        self.store = store
        self._cold = cold
        self._fill_bytes = fill_bytes
        #: Seconds for which it was left out last; 0 while it works.
        self.pause_s = 0.0
        self._use_from = 0.0

    def use(self, work: Callable[[], T], otherwise: T) -> T:
        """``work()``, which uses the hot store; ``otherwise`` if that is left out or fails."""
        now = time.monotonic()
        if now < self._use_from:
            return otherwise
        try:
            result = work()
        except CorruptRecordError as error:  # an evicted or damaged record: cold has it
            _log.warning("hot tier: %s", error)
            return otherwise
        except StoreError as error:
            self.pause_s = min(_LAST_PAUSE_S, max(_FIRST_PAUSE_S, self.pause_s * 2))
            self._use_from = now + self.pause_s
            _log.warning("hot tier left out for %.1f s: %s", self.pause_s, error)
            return otherwise
        if self.pause_s:
            _log.info("hot tier is back")
            self.pause_s = 0.0
        return result

    def read(self, truth: ExecutionInfo, read: Callable[[Store], T]) -> tuple[T] | None:
        """What ``read`` reads from the hot store, if that has the execution as cold has it
        (``truth``, cold's line). Else the hot store is filled up, and None is returned."""

        def read_or_fill() -> tuple[T] | None:
            self.store.open()
            line = find_execution(self.store, truth.execution_id)
            try:
                if same_content(truth, line):
                    return (read(self.store),)
            except CorruptRecordError as error:  # evicted or damaged
                _log.warning("hot tier: %s", error)
                self._fill(truth, anew=True)
            else:
                self._fill(truth, anew=False)
            return None

        return self.use(read_or_fill, None)

    def remove(self, execution_id: str) -> None:
        """Remove an execution that cold has not (any more)."""

        def remove() -> None:
            self.store.open()
            if find_execution(self.store, execution_id) is not None:
                self.store.delete_execution(execution_id)

        self.use(remove, None)

    def is_there(self, execution_id: str) -> bool:
        """Whether the hot store answers now."""

        def ask() -> bool:
            self.store.open()
            find_execution(self.store, execution_id)
            return True

        return self.use(ask, False)

    def drop_nodes(self, execution_id: str, node_ids: Collection[str]) -> bool:
        """Remove nodes that cold has not (any more); False: it could not be told. Where it has to
        keep one, or cannot remove single nodes, all of the execution goes and is filled anew."""

        def drop() -> bool:
            self.store.open()
            try:
                left = bool(self.store.drop_nodes(execution_id, node_ids).kept)
            except StoreUnavailableError:
                raise
            except (CorruptRecordError, StoreError) as error:
                _log.info("hot tier: %s", error)
                left = True
            if left and not self.store.forget(execution_id):
                self.store.delete_execution(execution_id)
            return True

        return self.use(drop, False)

    def refresh(self, execution_id: str) -> None:
        """Fill up an execution of which the hot store could not give a node."""

        def refresh() -> None:
            self.store.open()
            truth = find_execution(self._cold, execution_id)
            if truth is not None:
                line = find_execution(self.store, execution_id)
                self._fill(truth, anew=same_content(truth, line))  # it only seems to be complete

        self.use(refresh, None)

    def _fill(self, truth: ExecutionInfo, *, anew: bool) -> None:
        """Copy what cold has of an execution; ``anew``: what is there is removed first."""
        if truth.stored_bytes > self._fill_bytes:
            return
        execution_id = truth.execution_id
        if not anew:
            try:
                copy_execution(self._cold, self.store, execution_id)
            except StoreUnavailableError:
                raise
            except StoreError as error:  # hot knows a later owner and lacks an earlier one's rows
                _log.info("hot tier: %s", error)
            if same_content(truth, find_execution(self.store, execution_id)):
                return
        if self.store.forget(execution_id):
            copy_execution(self._cold, self.store, execution_id)
