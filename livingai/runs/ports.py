"""What runs, recovery and replays need of an engine.

:class:`~livingai.CheckpointEngine` has all of this. Naming it here, as protocols, keeps the imports
in one direction: the engine makes runs, and a run does not know the class of its engine.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Protocol

from livingai.node import ExecutionNode
from livingai.outcome import Durability, Receipt
from livingai.protocol.history import History
from livingai.protocol.sections import Cached


class ClaimState(Enum):
    """How a claim of this process appears in memory that all processes of the machine share."""

    #: No other process has marked the execution as taken since the claim was made.
    HELD = auto()
    #: Another process has marked the execution as taken, or may have taken it while there was
    #: nothing to mark; only the store knows who owns it.
    MARKED = auto()
    #: The journal's index has no entry of the claim any more: many other executions displaced it.
    DISPLACED = auto()
    #: This process has made a newer claim of the same execution.
    REPLACED = auto()


class OwnedClaim(Protocol):
    """An execution that this process writes: its place in the journal's index, and its claim."""

    #: Hash of the execution's id.
    key: int
    #: Number of its slot in the index.
    slot: int
    #: The claim's number: greater than that of each earlier claim on this machine.
    claim: int
    #: The epoch that the store has given to the claim; 0: not known yet.
    epoch: int


class RunEngine(Protocol):
    """The part of :class:`~livingai.CheckpointEngine` that runs use; its methods say what they do
    and raise."""

    # -- writing --

    async def save(
        self, node: ExecutionNode, state: Any = None, *, durability: Durability | None = None
    ) -> Receipt:
        """Record a node, and the state after it."""

    def save_sync(
        self, node: ExecutionNode, state: Any = None, *, durability: Durability | None = None
    ) -> Receipt:
        """Twin of :meth:`save`."""

    # -- reading --

    async def history(
        self, execution_id: str, *, behind_checkpoint: bool = False, known: Cached | None = None
    ) -> History:
        """All nodes with their versions, and the newest checkpoint."""

    def history_sync(
        self, execution_id: str, *, behind_checkpoint: bool = False, known: Cached | None = None
    ) -> History:
        """Twin of :meth:`history`."""

    def cached(self, execution_id: str) -> Cached | None:
        """The newest state, if the hot cache has it; asks neither service nor store."""

    async def nodes(self, execution_id: str) -> list[ExecutionNode]:
        """All nodes, in the order of their first save."""

    def nodes_sync(self, execution_id: str) -> list[ExecutionNode]:
        """Twin of :meth:`nodes`."""

    async def latest(self, execution_id: str) -> tuple[ExecutionNode, Any]:
        """The newest checkpoint: its node and its state."""

    def latest_sync(self, execution_id: str) -> tuple[ExecutionNode, Any]:
        """Twin of :meth:`latest`."""

    async def load(self, node_id: str) -> tuple[ExecutionNode, Any]:
        """A node, and the newest state that it was saved with."""

    def load_sync(self, node_id: str) -> tuple[ExecutionNode, Any]:
        """Twin of :meth:`load`."""

    # -- ownership --

    def new_claim(self, execution_id: str) -> tuple[OwnedClaim, str]:
        """Mark the execution as taken by this process; the claim, and the token by which the store
        knows it."""

    def keep_claim(self, execution_id: str, owned: OwnedClaim) -> None:
        """Remember a claim of this process that was displaced, unless it has made a newer one."""

    async def confirm_claim(self, execution_id: str, claim: str) -> int:
        """The epoch that the store gives, or has given, to the claim with that token."""

    def confirm_claim_sync(self, execution_id: str, claim: str) -> int:
        """Twin of :meth:`confirm_claim`."""

    def claim_state(self, execution_id: str, owned: OwnedClaim) -> ClaimState:
        """How a claim of this process appears at this moment; asks neither service nor store."""

    def others_enter(self, execution_id: str) -> bool:
        """Whether another process may be taking the execution over at this moment."""
