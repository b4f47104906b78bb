"""Paused runs: a ``RunState`` with approvals that wait, stored by one process, resumed by another.

Each save is a version of the paused run. Loading one for resumption writes a *claim* of it; whose
claim the store has first may go on, everybody else is refused. So an approval is used once, however
many processes, retries and double clicks there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agents import RunState

from livingai.adapters.arguments import check_durability
from livingai.adapters.names import behind_prefix, execution_name
from livingai.adapters.openai_agents.arguments import (
    FRAMEWORK,
    MOMENTS,
    check_place,
)
from livingai.adapters.openai_agents.items import decode, encode
from livingai.adapters.shared_log import SharedLog
from livingai.asked import shown
from livingai.engine.engine import CheckpointEngine
from livingai.errors import AlreadyResumedError, ConfigurationError, ExecutionNotFoundError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.outcome import Durability
from livingai.stores.ranges import MAX_NODES, NodeRange


class _Paused(NamedTuple):
    """A version of a paused run: its sortable id, and the state as the SDK writes it."""

    version: str
    state: dict[str, Any]


async def save_run_state(
    engine: CheckpointEngine,
    key: str,
    state: Any,
    *,
    durability: Durability | None = None,
    **options: Any,
) -> None:
    """Store a paused run under ``key``, as its newest version.

    Args:
        engine: where.
        key: any text; which run it is is yours to say (a ticket's number, say).
        state: the ``RunState``, or the result of the run that was interrupted.
        durability: as for ``engine.save``; by default the engine's, JOURNAL.
        options: for ``RunState.to_json``, such as ``context_serializer``.

    Raises:
        ConfigurationError: an argument that cannot work.
        LivingAIError: as ``engine.save``; nothing was stored.
    """
    check_place(engine, key, "key")
    check_durability(durability)
    if not isinstance(state, RunState) and hasattr(state, "to_state"):
        state = state.to_state()
    if not isinstance(state, RunState):
        raise ConfigurationError(
            f"state must be a RunState, or a result with to_state(), not {shown(state)}"
        )
    text = encode(state.to_json(**options), "the run's state")
    execution = _execution(key)
    waiting = [str(item.tool_name) for item in state.get_interruptions()]
    node = _node(execution, f"{execution}/paused/{MOMENTS.next()}", "paused", waits_for=waiting)
    await SharedLog(engine).append(node, text, durability=durability)


async def load_run_state(
    engine: CheckpointEngine,
    key: str,
    agent: Any,
    *,
    claim: bool = True,
    again: bool = False,
    **options: Any,
) -> Any:
    """The newest version of the paused run of that key, to be resumed by this process alone.

    Args:
        engine: where it was stored.
        key: as it was stored.
        agent: the agent that the run began with.
        claim: False: only look at it, to show what waits for approval. Do not resume what was
            loaded so; nobody is kept from doing it a second time.
        again: it may be resumed although it was before. For when the process that did so has died:
            tools of :func:`durable_tool` that it has called are not called a second time, others
            are.
        options: for ``RunState.from_json``, such as ``context_override``.

    Raises:
        AlreadyResumedError: another call has claimed this version.
        ExecutionNotFoundError: nothing is stored under that key.
        CorruptRowError: the store holds something else.
        agents.UserError: the SDK cannot read the state (a newer one wrote it, say). It is not
            claimed.
    """
    check_place(engine, key, "key")
    log, execution = SharedLog(engine), _execution(key)
    log.check(execution)
    paused = await _newest(log, execution, key)
    state = await RunState.from_json(agent, paused.state, **options)
    if claim and not await _claimed(log, execution, paused.version, again=again):
        raise AlreadyResumedError(
            f"the paused run {key!r} was resumed before (version {paused.version}), so its "
            "approvals are used up. If the process that resumed it has died, pass again=True; "
            "tools wrapped by durable_tool are not called a second time then"
        )
    return state


async def _newest(log: SharedLog, execution: str, key: str) -> _Paused:
    prefix = f"{execution}/paused/"
    page = await log.nodes_between(
        execution, NodeRange(prefix, behind_prefix(prefix), 1, backwards=True)
    )
    if not page.nodes:
        raise ExecutionNotFoundError(f"no paused run is stored under {key!r}")
    found = page.nodes[0]
    version = found.node.id.removeprefix(prefix)
    MOMENTS.saw(version)
    return _Paused(version, decode(found.state, found.node.id))


async def _claimed(log: SharedLog, execution: str, version: str, *, again: bool) -> bool:
    """Claim a version; whether nobody else had."""
    prefix = f"{execution}/resumed/{version}/"
    node = _node(execution, f"{prefix}{MOMENTS.next()}", "resumed", again=again)
    asked = NodeRange(prefix, behind_prefix(prefix), MAX_NODES, states=False)
    if not again and (await log.nodes_between(execution, asked)).nodes:
        return False  # do not add to what is decided
    await log.append(node, durability=Durability.STORE)
    claims = (await log.nodes_between(execution, asked)).nodes
    return again or min(claims, key=lambda each: each.first).node.id == node.id


def _execution(key: str) -> str:
    return execution_name(FRAMEWORK, "state", key)


def _node(execution: str, node_id: str, name: str, **about: Any) -> ExecutionNode:
    return ExecutionNode(
        execution, NodeType.MEMORY, Status.SUCCESS, id=node_id,
        metadata={"framework": FRAMEWORK, "name": name, **about},
    )  # fmt: skip
