"""Who may run a program: one process owns an execution, and knows when it no longer does.

Taking an execution over, step by step, and why a tool is never run by two owners:

1. The successor marks the execution as taken in the index of every other journal of the directory,
   and records its own beginning.
2. It asks the service for its epoch. The service first stores what was accepted before that, the
   former owner's records included; what the former owner records from now on is fenced.
3. It reads the history.

The former owner records a tool's intent, then looks at its mark, then calls the tool. If its record
was accepted before (2), the successor reads it in (3), and the tool is in doubt. If not, the mark
of (1) was there before it looked, and it does not call. A mark may also be set by a contender that
lost, so it is not proof: the marked process asks the store, whose answer counts.

This holds for processes that share a state directory. Across machines there are no marks; there a
run is opened with ``exclusive=True``, and an intent is stored, and thereby checked, first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from livingai.effects import Claim, Save, Work
from livingai.errors import FencedError

if TYPE_CHECKING:
    from livingai.engine import CheckpointEngine
    from livingai.local import Entry
    from livingai.node import ExecutionNode


class Ownership:
    """One process's ownership of one execution; see the module's text."""

    def __init__(self, engine: CheckpointEngine, execution_id: str) -> None:
        self._engine = engine
        self._execution_id = execution_id
        self._entry: Entry | None = None
        self._token = ""
        #: The store's fencing token; 0 before :meth:`take`.
        self.epoch = 0

    def take(self, beginning: ExecutionNode) -> Work[None]:
        """Become the owner, whoever was it before, and record ``beginning``.

        Raises:
            FencedError: yet another process did the same at the same time, and won.
        """
        self._enter()
        yield Save(beginning)
        self.epoch = yield Claim(self._execution_id, self._token)
        assert self._entry is not None
        self._entry.epoch = self.epoch
        if self._replaced():
            raise self._fenced()

    def check(self) -> Work[None]:
        """Go on if this process is still the owner.

        Raises:
            FencedError: it is not.
            ServiceUnavailableError: it has reason to doubt it, and cannot ask.
        """
        if self._held():
            return
        if self._replaced():
            raise self._fenced()
        yield Claim(self._execution_id, self._token)
        if self._in_index():
            return
        # Pushed out of the index by thousands of others. Enter anew, and see that nobody came
        # between: he could not have marked an entry that was not there.
        self._enter()
        epoch: int = yield Claim(self._execution_id, self._token)
        if epoch != self.epoch + 1:
            raise FencedError(
                f"execution {self._execution_id} was taken over by epoch {epoch - 1} while this "
                f"process, with epoch {self.epoch}, was idle; start it again"
            )
        assert self._entry is not None
        self.epoch = self._entry.epoch = epoch

    def _enter(self) -> None:
        self._entry, self._token = self._engine.new_claim(self._execution_id)

    def _replaced(self) -> bool:
        """Whether this very process has begun to run the execution once more."""
        entry = self._engine.open_local().entries.get(self._execution_id)
        return entry is not None and entry is not self._entry

    def _fenced(self) -> FencedError:
        return FencedError(
            f"execution {self._execution_id} was entered again in this process while it was still "
            "running; the later one goes on, this one has ended"
        )

    def _in_index(self) -> bool:
        local = self._engine.open_local()
        entry = self._entry
        return (
            entry is not None
            and local.entries.get(self._execution_id) is entry
            and local.journal is not None
            and local.journal.index.owns(entry.slot, entry.key)
        )

    def _held(self) -> bool:
        if not self._in_index():
            return False
        local, entry = self._engine.open_local(), self._entry
        assert local.journal is not None
        assert entry is not None
        slot = local.journal.index.get(entry.key)
        return slot is not None and slot.claim == entry.claim and not slot.superseded
