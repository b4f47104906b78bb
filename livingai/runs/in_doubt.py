"""Tools in doubt: what a resolver is asked, and what its answer records."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from livingai.errors import InDoubtError, ResultEncodingError
from livingai.node import ExecutionNode, Status, shown
from livingai.runs.effects import Work
from livingai.runs.failures import RAISED, describe, is_own
from livingai.runs.invoking import Invoke
from livingai.runs.policy import Resolution, ResolutionAction, Resolver

#: Metadata of a node that was in doubt: what was decided about it.
RESOLVED: Final = "resolved"


def is_lost(recorded: ExecutionNode) -> bool:
    """Whether a tool was called and its result could not be recorded."""
    error = recorded.error
    return (
        recorded.status is Status.FAILED
        and not recorded.idempotent
        and error is not None
        and error.type == ResultEncodingError.__qualname__
    )


def ask(resolver: Resolver | None, node: ExecutionNode) -> Work[Resolution | None]:
    """What a resolver says of a node; None: nothing, or there is no resolver.

    Raises:
        InDoubtError: the resolver failed, so the tool is still in doubt.
    """
    if resolver is None:
        return None
    found: Any
    try:
        found = yield Invoke(resolver, (node,))
    except Exception as error:
        if is_own(error):
            raise
        raise _undecided(node, f"raised {type(error).__qualname__}: {shown(error)}") from error
    if found is not None and not isinstance(found, Resolution):
        raise _undecided(node, f"returned {found!r:.200}, which is not a Resolution")
    return found


def _undecided(node: ExecutionNode, what: str) -> InDoubtError:
    return InDoubtError(
        f"run {node.execution_id!r}: the tool {node.metadata.get('name')!r} ({node.id}) is in "
        f"doubt, and the resolver {what}. It must return Resolution.done(result), .retry(), "
        ".fail(error), or None where it does not know; see docs/RECOVERY.md.",
        (node.id,),
    )


def resolved_node(recorded: ExecutionNode, resolution: Resolution) -> ExecutionNode:
    """The node of a tool in doubt, as a resolver decided it (not for ``retry``)."""
    metadata = {**recorded.metadata, RESOLVED: resolution.action.value}
    node = ExecutionNode(
        recorded.execution_id, recorded.type, Status.SUCCESS, recorded.input, resolution.output,
        parent_id=recorded.parent_id, cost_tokens=recorded.cost_tokens, metadata=metadata,
        id=recorded.id, created_at=recorded.created_at, completed_at=time.time(),
    )  # fmt: skip
    if resolution.action is ResolutionAction.FAIL:
        node.status = Status.FAILED
        error = resolution.error or RuntimeError("a resolver decided that it failed")
        node.error, metadata[RAISED] = describe(error)
    return node


def node_to_retry(recorded: ExecutionNode) -> ExecutionNode:
    """The node of a tool in doubt of which somebody has decided that it did not happen: it has not
    begun."""
    metadata = {**recorded.metadata, RESOLVED: ResolutionAction.RETRY.value}
    return replace(recorded, status=Status.PENDING, metadata=metadata)


def is_to_retry(recorded: ExecutionNode) -> bool:
    """Whether a node is one of :func:`node_to_retry`."""
    resolved = recorded.metadata.get(RESOLVED)
    return recorded.status is Status.PENDING and resolved == ResolutionAction.RETRY.value


def in_doubt_error(execution_id: str, nodes: list[ExecutionNode]) -> InDoubtError:
    """The error that lists tools in doubt."""
    lines = "".join(
        f"\n  {node.metadata.get('name', node.type.value)} {node.input!r:.200} ({node.id})"
        for node in nodes
    )
    return InDoubtError(
        f"run {execution_id!r}: these tools were about to be called before the crash and have no "
        f"recorded result, so each may or may not have happened:{lines}\nPass resolver= to decide; "
        "see docs/RECOVERY.md.",
        tuple(node.id for node in nodes),
    )
