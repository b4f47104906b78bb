"""Runs seen by a person: asked of the service where one runs, else read from the store itself.

Nothing is claimed or changed. A look never starts a service without need: only where no service
runs and accepted records still wait in the journals, one is started, which stores them first; so
what is shown has everything that was accepted before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from livingai.config import EngineConfig
from livingai.errors import (
    ExecutionNotFoundError,
    NodeNotFoundError,
    ServiceUnavailableError,
)
from livingai.inspection.directories import (
    DirectoryView,
    NothingThereError,
    existing_store,
    find_directory,
    is_directory,
)
from livingai.node import ExecutionNode
from livingai.protocol import verbs
from livingai.protocol.executions import ExecutionPage, page_of, page_request
from livingai.protocol.history import Recorded, unpack_history
from livingai.protocol.ranges import unpack_page
from livingai.protocol.verbs import Answer, StateSize, Verb
from livingai.stores.base import ExecutionFilter, ExecutionInfo, NodeRange, Store
from livingai.stores.opening import open_store
from livingai.workers.store.reader import ReaderRole

if TYPE_CHECKING:
    from livingai.runs.recovery import RecoveryPlan

#: Seconds that a service has for an answer.
_PATIENCE_S = 15.0
#: A service that is just starting or ending is asked again for so long, every so often.
_CHANGE_S = 5.0
_LOOK_EVERY_S = 0.05
#: Executions of which so many are asked for at a time.
_PAGE = 5000


class Asker(Protocol):
    """Asks one thing of whoever reads the store."""

    def __call__(self, verb: Verb[Answer], *arguments: Any) -> Answer: ...


class RunsView:
    """What a store has of its executions. Everything raises ServiceUnavailableError or
    StoreUnavailableError where nobody answers, and CorruptRecordError where a row is damaged."""

    def __init__(self, ask: Asker, store_url: str) -> None:
        self._ask = ask
        #: The store's URL without credentials.
        self.store_url = store_url

    def page(
        self, where: ExecutionFilter | None, prefix: str, after: str | None, limit: int
    ) -> ExecutionPage:
        """A page of executions in order of id; as :meth:`~livingai.CheckpointEngine.executions`."""
        request = page_request(after, limit, prefix, where)
        return page_of(self._ask(verbs.EXECUTIONS, *request), limit)

    def executions(
        self, where: ExecutionFilter | None = None, prefix: str = "", after: str | None = None
    ) -> Iterator[ExecutionInfo]:
        """All executions in order of id, read page by page."""
        while True:
            page = self.page(where, prefix, after, _PAGE)
            yield from page
            if page.next_after is None:
                return
            after = page.next_after

    def execution(self, execution_id: str) -> ExecutionInfo:
        """The line of one execution.

        Raises:
            ExecutionNotFoundError: there is none.
        """
        for found in self.page(None, execution_id, None, 1):
            if found.execution_id == execution_id:
                return found
        raise ExecutionNotFoundError(f"no execution {execution_id!r} in {self.store_url}")

    def nodes(self, execution_id: str) -> list[Recorded]:
        """All its nodes in their newest versions, in the order of their first save.

        Raises:
            ExecutionNotFoundError: there is none.
        """
        return unpack_history(self._ask(verbs.NODES, execution_id), None, execution_id).nodes

    def plan(self, execution_id: str) -> RecoveryPlan:
        """Where it would resume, and what of it would be repeated; as
        :meth:`~livingai.RecoveryEngine.plan`."""
        from livingai.runs.recovery import RecoveryPlan, make_plan  # noqa: PLC0415 - imports much

        try:
            message = self._ask(verbs.HISTORY, execution_id, None, True)
        except ExecutionNotFoundError:
            return RecoveryPlan(execution_id, found=False)
        return make_plan(execution_id, unpack_history(message, None, execution_id))

    def checkpoints(self, execution_id: str) -> list[StateSize]:
        """Its checkpoints without their states, oldest first."""
        return self._ask(verbs.CHECKPOINTS, execution_id)

    def node(self, execution_id: str, node_id: str) -> tuple[ExecutionNode, Any]:
        """One of its nodes in its newest version, and the newest state that it was saved with.

        Raises:
            NodeNotFoundError: it has no such node.
        """
        asked = NodeRange(node_id, node_id + "\0", limit=1)
        answer = self._ask(verbs.NODES_BETWEEN, execution_id, asked.to_wire())
        for found in unpack_page(answer, asked, execution_id):
            return found.node, found.state
        raise NodeNotFoundError(f"execution {execution_id!r} has no node {node_id!r}")


@contextmanager
def runs_view(where: str, config: EngineConfig | None = None) -> Iterator[RunsView]:
    """A view of what ``where`` means: a store's file or URL, or a state directory. ``config`` has
    the settings of its agents.

    Raises:
        NothingThereError: there is no such thing.
        ServiceUnavailableError: a service runs and does not answer, or records wait in the journals
            and nobody can store them.
    """
    try:
        directory = find_directory(where, config.directory if config is not None else None)
    except NothingThereError:
        store = existing_store(where)  # no agent of this machine has used it
        source = _ServiceOrStore(None, store, config)
    else:
        # A URL may bring credentials, which the directory does not have.
        store = directory.open_store() if is_directory(where) else open_store(where)
        source = _ServiceOrStore(directory, store, config)
    try:
        yield RunsView(source, store.url)
    finally:
        source.close()


class _ServiceOrStore:
    """Asks the service as long as one runs, then reads the store."""

    def __init__(
        self, directory: DirectoryView | None, store: Store, config: EngineConfig | None
    ) -> None:
        self._directory = directory
        self._store = store
        self._config = config
        self._reader: ReaderRole | None = None

    def __call__(self, verb: Verb[Answer], *arguments: Any) -> Answer:
        if self._reader is None and self._directory is not None:
            give_up = time.monotonic() + _CHANGE_S
            while self._directory.owner() is not None:
                try:
                    return self._directory.ask(verb, *arguments, timeout_s=_PATIENCE_S)
                except ServiceUnavailableError:
                    if time.monotonic() > give_up:
                        raise
                time.sleep(_LOOK_EVERY_S)
        return verb.read(self._opened().handle(verb.name, list(arguments)))

    def _opened(self) -> ReaderRole:
        if self._reader is None:
            directory = self._directory
            if directory is not None and directory.waiting():
                from livingai.engine.engine import CheckpointEngine  # noqa: PLC0415 - it is rare

                with CheckpointEngine(
                    self._store, self._config, directory=directory.path
                ) as engine:
                    engine.drain_sync()
            self._reader = ReaderRole(
                self._store, directory.directory if directory is not None else None
            )
        return self._reader

    def close(self) -> None:
        """Disconnect from the store."""
        if self._reader is not None:
            self._reader.close()
