"""Values that several processes overwrite, of which the newest one counts.

A value is a group of entries in an execution's shared log, each with the whole value; an entry is
the node ``<execution>/<group>/<moment>``. A group may have groups, ``a/1`` and ``a/2`` of ``a``,
whose entries it has in their order. Nobody changes an entry, so processes that write at once never
put each other's value out; the one with the highest moment is the value.
"""

from __future__ import annotations

from typing import Any, Final

from livingai.adapters.arguments import check_durability, check_engine
from livingai.adapters.moments import MOMENT_CHARS, Moments
from livingai.adapters.names import behind_prefix
from livingai.adapters.shared_log import SharedLog
from livingai.adapters.steps import Step, Steps
from livingai.engine.engine import CheckpointEngine
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.protocol.ranges import NodePage, RangedNode
from livingai.stores.ranges import NodeRange

_PAGE: Final = 1000


class SharedValues:
    """Puts and gets values. Thread-safe. Methods give steps: see :mod:`livingai.adapters.steps`.

    Raises:
        ConfigurationError: ``engine`` is no engine, or ``durability`` no level.
    """

    def __init__(self, engine: CheckpointEngine, durability: Durability | None = None) -> None:
        check_engine(engine)
        check_durability(durability)
        self.engine = engine
        self.log = SharedLog(engine)
        self._durability = durability
        self._moments = Moments()

    def put(
        self,
        execution_id: str,
        group: str,
        value: Any,
        *,
        durability: Durability | None = None,
        **fields: Any,
    ) -> Steps[str]:
        """Make ``value`` the newest one of a group; the entry's id. ``fields`` are the node's.

        Raises:
            LivingAIError: as :meth:`SharedLog.append`; nothing was written.
        """
        node = ExecutionNode(
            execution_id, NodeType.MEMORY, Status.SUCCESS,
            id=f"{_prefix(execution_id, group)}{self._moments.next()}", **fields,
        )  # fmt: skip
        node.completed_at = node.created_at
        yield Step(self.log, "append", node, value, durability=durability or self._durability)
        return node.id

    def newest(self, execution_id: str, group: str) -> Steps[RangedNode | None]:
        """The newest entry of a group, of all processes, with its value; None: there is none.

        Raises:
            LivingAIError: as :meth:`SharedLog.nodes_between`, and what became known of earlier
                entries of this process (:meth:`SharedLog.check`).
        """
        [found] = yield from self.newest_of(execution_id, group)
        return found

    def newest_of(self, execution_id: str, *groups: str) -> Steps[list[RangedNode | None]]:
        """The newest entry of each group, in one round trip."""
        self.log.check(execution_id)
        asked = [_newest(_prefix(execution_id, group)) for group in groups]
        pages: list[NodePage] = yield Step(self.log, "pages", execution_id, asked)
        newest = [page.nodes[0] if page.nodes else None for page in pages]
        for entry in newest:
            if entry is not None:
                self._moments.saw(moment_of(entry.node.id))
        return newest

    def entries(
        self, execution_id: str, group: str, *, states: bool = True
    ) -> Steps[list[RangedNode]]:
        """All entries of a group, in order."""
        self.log.check(execution_id)
        prefix = _prefix(execution_id, group)
        asked: NodeRange | None = NodeRange(
            prefix, behind_prefix(prefix), limit=_PAGE, states=states
        )
        found: list[RangedNode] = []
        while asked is not None:
            page: NodePage = yield Step(self.log, "nodes_between", execution_id, asked)
            found += page.nodes
            asked = page.rest
        for entry in found:
            self._moments.saw(moment_of(entry.node.id))
        return found

    def first_stored(self, execution_id: str, group: str) -> Steps[RangedNode | None]:
        """The entry of a small group that the store has had first; None: there is none. Whoever
        asks after its own entry is stored gets the same answer as everybody else, for good."""
        found = yield from self.entries(execution_id, group, states=False)
        return min(found, key=lambda entry: entry.first, default=None)


def moment_of(node_id: str) -> str:
    """The moment in an entry's id."""
    return node_id[-MOMENT_CHARS:]


def _prefix(execution_id: str, group: str) -> str:
    return f"{execution_id}/{group}/"


def _newest(prefix: str) -> NodeRange:
    return NodeRange(prefix, behind_prefix(prefix), limit=1, backwards=True)
