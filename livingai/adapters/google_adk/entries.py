"""What a session is stored as: a log of entries, and how one is read.

A session is an execution. Its entries are nodes that never change, ``<execution>/<number>-<id>``:

* number 0 says who the session belongs to, and has the state that it was created with;
* each event has the number behind the event that its writer had seen last, so the order of ids is
  the order of events. An event that changes the session's state is saved with the new state; each
  entry says which one has the state (``state_at``), so a reader needs neither events nor deltas;
* an event that sums up others (a compaction) has the number of the event behind which it was
  written, and a letter that sorts it behind that. Nobody's view of the session depends on it.

``born`` is the id of the entry 0 that an entry belongs to. A session that is deleted, and created
again under its name, begins anew; what a slow writer adds to the deleted one then belongs to none.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from google.adk.events.event import Event
from google.adk.sessions.session import Session
from google.adk.sessions.state import State
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from livingai.adapters.names import behind_prefix, execution_name
from livingai.errors import CorruptRowError
from livingai.node import ExecutionNode, NodeType, Status
from livingai.protocol.ranges import RangedNode
from livingai.stores.ranges import NodeRange

FRAMEWORK: Final = "google-adk"
_DIGITS: Final = 12
_EVENT: Final = "-"
#: Sorts behind a hyphen.
_SUMMARY: Final = "c"

#: More than machines that create one session at the same moment.
_CREATORS: Final = 100

StateDict = dict[str, Any]


def unique() -> str:
    """An end of an id that nothing else has; those of one machine sort by the time."""
    return f"{time.time_ns():016x}-{secrets.token_hex(6)}"


def session_execution(app_name: str, user_id: str, session_id: str) -> str:
    """The id of a session's execution."""
    return execution_name(FRAMEWORK, "session", app_name, user_id, session_id)


def sessions_prefix(app_name: str, user_id: str | None) -> str:
    """How the ids of all sessions of an app, or of one of its users, begin."""
    whose = (app_name,) if user_id is None else (app_name, user_id)
    return execution_name(FRAMEWORK, "session", *whose) + "/"


@dataclass(frozen=True, slots=True)
class Entry0:
    """A session's first entry: whose it is, and its state at first."""

    id: str
    app_name: str
    user_id: str
    session_id: str
    state: StateDict
    created: float


@dataclass(frozen=True, slots=True)
class EntryPlace:
    """What an entry says of its place in the session."""

    #: The entry itself, and the newest event up to it that is no summary (or entry 0).
    id: str
    head: str
    #: ADK's id of that event; empty for entry 0.
    head_event: str
    number: int
    born: str
    state_at: str
    #: The event's own time, and the highest time of all events so far (Unix seconds).
    updated: float
    highest: float
    #: Whether the event changes state of the user or the app.
    scopes: bool


def split_state(delta: StateDict | None) -> tuple[StateDict, StateDict, StateDict]:
    """A change of state as plain JSON values, by scope, with keys without prefix: the session's,
    the user's, the app's. What is ``temp:`` is left out."""
    parts: tuple[StateDict, StateDict, StateDict] = ({}, {}, {})
    for key, value in (delta or {}).items():
        if key.startswith(State.TEMP_PREFIX):
            continue
        if key.startswith(State.USER_PREFIX):
            parts[1][key.removeprefix(State.USER_PREFIX)] = plain(value)
        elif key.startswith(State.APP_PREFIX):
            parts[2][key.removeprefix(State.APP_PREFIX)] = plain(value)
        else:
            parts[0][key] = plain(value)
    return parts


def plain(value: Any) -> Any:
    """A value as JSON has it; what has no such form, such as a function, as a text that shows
    it."""
    try:
        return to_jsonable_python(value, fallback=repr)
    except ValueError:  # bytes that are no UTF-8, something that contains itself
        try:
            return to_jsonable_python(value, fallback=repr, bytes_mode="base64")
        except ValueError:
            return repr(value)


def event_text(event: Event) -> str:
    """An event as JSON. Where its change of state has values that ADK cannot write, they are as
    :func:`plain` has them."""
    try:
        return str(event.model_dump_json(exclude_none=True))
    except ValueError:
        delta = {key: plain(value) for key, value in event.actions.state_delta.items()}
        actions = event.actions.model_copy(update={"state_delta": delta})
        event = event.model_copy(update={"actions": actions})
        return str(event.model_dump_json(exclude_none=True))


def first_entry(execution_id: str, session: Session, now: float) -> ExecutionNode:
    """The node of entry 0, to be saved with the session's state."""
    node = _node(execution_id, f"{0:0{_DIGITS}d}{_EVENT}{unique()}", now)
    node.metadata |= {
        "kind": "session", "app_name": session.app_name, "user_id": session.user_id,
        "session_id": session.id,
    }  # fmt: skip
    return node


def event_entry(
    execution_id: str, text: str, event: Event, behind: EntryPlace, own_state: bool, scopes: bool
) -> ExecutionNode:
    """The node of an event that follows ``behind``."""
    summary = is_summary(event)
    number, letter = (behind.number, _SUMMARY) if summary else (behind.number + 1, _EVENT)
    node = _node(execution_id, f"{number:0{_DIGITS}d}{letter}{unique()}", event.timestamp)
    node.output = text
    node.parent_id = behind.head
    node.metadata |= {
        "kind": "event", "name": event.author, "event": event.id, "born": _name(behind.born),
        "state_at": _name(node.id if own_state else behind.state_at),
        "highest": max(behind.highest, event.timestamp),
    }  # fmt: skip
    if summary:
        node.metadata |= {"head": _name(behind.head), "head_event": behind.head_event}
    if scopes:
        node.metadata["scopes"] = True
    return node


def own_part(node: ExecutionNode) -> str:
    """What tells an entry from all others of any session: the end of its id."""
    return _name(node.id)[_DIGITS + 1 :]


def _name(node_id: str) -> str:
    """A node's id without its execution's, which is long."""
    return node_id.rpartition("/")[2]


def _node(execution_id: str, name: str, at: float) -> ExecutionNode:
    return ExecutionNode(
        execution_id, NodeType.MEMORY, Status.SUCCESS, id=f"{execution_id}/{name}",
        metadata={"framework": FRAMEWORK}, created_at=at, completed_at=at,
    )  # fmt: skip


def is_summary(event: Event) -> bool:
    """Whether an event only sums up earlier ones: it is right whatever is added meanwhile, and
    what is added is right without it."""
    return event.actions is not None and event.actions.compaction is not None


# -- reading --


def first_range(execution_id: str) -> NodeRange:
    """Asks for entry 0, and for those that creators on other machines have added at that moment."""
    prefix = f"{execution_id}/{0:0{_DIGITS}d}{_EVENT}"
    return NodeRange(prefix, behind_prefix(prefix), limit=_CREATORS)


def newest_range(execution_id: str, limit: int) -> NodeRange:
    """Asks for the newest entries, newest first, without their states."""
    prefix = f"{execution_id}/"
    return NodeRange(prefix, behind_prefix(prefix), limit, backwards=True, states=False)


def node_range(node_id: str) -> NodeRange:
    """Asks for one node with its state."""
    return NodeRange(node_id, node_id + "\0", limit=1)


def read_first(found: Iterable[RangedNode]) -> Entry0 | None:
    """Entry 0, the one that the store had first, from nodes; None: there are none.

    Raises:
        CorruptRowError: it is none.
    """
    entry = min(found, key=lambda each: each.first, default=None)
    if entry is None:
        return None
    about = entry.node.metadata
    names = [about.get(name) for name in ("app_name", "user_id", "session_id")]
    if about.get("kind") != "session" or not all(isinstance(name, str) for name in names):
        raise _foreign(entry.node, "the first entry of a session")
    app_name, user_id, session_id = map(str, names)
    return Entry0(
        entry.node.id, app_name, user_id, session_id, read_state(entry), entry.node.created_at
    )


def place_of_first(first: Entry0) -> EntryPlace:
    """The place of entry 0."""
    return EntryPlace(
        first.id, first.id, "", 0, first.id, first.id, first.created, float("-inf"), scopes=False
    )


def read_place(node: ExecutionNode) -> EntryPlace:
    """What the node of an event says of its place.

    Raises:
        CorruptRowError: it is no event's.
    """
    about = node.metadata
    own = {"head": _name(node.id), "head_event": about.get("event")}
    texts = [(own | about).get(name) for name in ("head", "head_event", "born", "state_at")]
    highest, digits = about.get("highest"), _name(node.id)[:_DIGITS]
    if (
        about.get("kind") != "event"
        or not all(isinstance(text, str) for text in texts)
        or not isinstance(highest, int | float)
        or not isinstance(node.created_at, int | float)
        or not (digits.isascii() and digits.isdigit())
    ):
        raise _foreign(node, "an event of a session")
    head, head_event, born, state_at = map(str, texts)
    prefix = f"{node.execution_id}/"
    return EntryPlace(
        node.id, prefix + head, head_event, int(digits), prefix + born, prefix + state_at,
        node.created_at, highest,
        about.get("scopes") is True,
    )  # fmt: skip


def read_event(node: ExecutionNode) -> Event:
    """The event of an entry.

    Raises:
        CorruptRowError: it is none that this version of ADK takes.
    """
    try:
        return Event.model_validate_json(node.output)
    except ValidationError as error:
        raise CorruptRowError(
            f"{node.id} holds no event that this version of google-adk takes: {error}"
        ) from error


def read_state(entry: RangedNode) -> StateDict:
    """The session's state that was saved with an entry.

    Raises:
        CorruptRowError: there is none.
    """
    state = entry.state
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise _foreign(entry.node, "an entry with a session's state")
    return state


def _foreign(node: ExecutionNode, what: str) -> CorruptRowError:
    return CorruptRowError(
        f"{node.id} is not {what}: another program has written into the session's execution"
    )
