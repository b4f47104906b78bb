"""livingai 0.4.1, the release before this design, as its README says: ``CheckpointEngine`` on
``SQLiteStore``, with the budget of 50 ms. A save beyond the budget is dropped there; here it has
the outcome ``late``. Its package has our name, so it is imported under another one: all its imports
are relative."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench.peers.base import Done, Peer, Place
from livingai import Durability, ExecutionNode, Outcome, OutcomeStatus

_NAME: Final = "released_livingai"


def _imported(packages: str) -> ModuleType:
    home = Path(packages, "livingai")
    spec = importlib.util.spec_from_file_location(
        _NAME, home / "__init__.py", submodule_search_locations=[str(home)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{home} is no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module


class Released(Peer):
    """``save`` returns when the state is committed, or when its time is over."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._their: Any = _imported(place.packages)
        self._engine: Any = None

    async def open(self) -> None:
        """Open the file."""
        logging.getLogger("livingai").setLevel(logging.ERROR)  # else a line for each that is late
        store = self._their.SQLiteStore(self.place.path)
        self._engine = self._their.CheckpointEngine(store, overhead_budget_ms=self.place.budget_ms)

    async def save(self, node: ExecutionNode, state: bytes) -> Awaitable[Outcome]:
        """Save a node with the state."""
        began_ns = time.perf_counter_ns()
        theirs = self._their.ExecutionNode(
            execution_id=node.execution_id, type=self._their.NodeType.PROMPT,
            status=self._their.Status.SUCCESS, output=node.output, metadata=dict(node.metadata),
        )  # fmt: skip
        kept = await self._engine.save(theirs, state=state)
        outcome = self._outcome(began_ns)
        if not kept:
            # Beyond its own limit whatever this clock says: the write is not waited for any more.
            latency_ms = max(outcome.latency_ms, self.place.budget_ms + 1)
            outcome = Outcome(OutcomeStatus.LATE, Durability.STORE, latency_ms)
        return Done(outcome)

    async def close(self) -> None:
        """Close the file."""
        self._engine.store.close()
