"""What the reader answers to who resumes: the state that it lacks, and what came behind that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from livingai.node import Status
from livingai.protocol.history import History, unpack_history
from livingai.stores.sqlite import SQLiteStore
from livingai.testing.rows import commit, make_row, state
from livingai.workers.store.reader import ReaderRole

RUN = "run"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "a.db") as found:
        yield found


def asked(
    store: SQLiteStore, have: list[Any] | None = None, *, behind: bool = False
) -> tuple[Any, History]:
    """The state as it was sent, and what the agent makes of the message."""
    with closing(ReaderRole(SQLiteStore(store.url.removeprefix("sqlite:///")))) as role:
        message = role.do_history(RUN, have, behind)
    return message[1], unpack_history(message, None, RUN)


def ids(found: History) -> list[str]:
    return [recorded.node.id for recorded in found.nodes]


def saved(seq: int, text: str = "", **fields: Any) -> Any:
    blob = state(text) if text else None
    return make_row(RUN, seq, blob=blob, **fields)


def test_the_state_is_sent_unless_the_agent_has_that_very_write(store: SQLiteStore) -> None:
    """Another claim's write may have the same node and number."""
    commit(store, [saved(1, "old", node_id="n", claim="one")])
    commit(store, [saved(1, "new", node_id="n", claim="two")])
    for have in (None, ["n", 1, "one"], ["n", 2, "two"], ["m", 1, "two"], ["n", 1, None]):
        sent, found = asked(store, have)
        assert sent == [1, b"new"]
        assert found.checkpoint == ("n", 2, 1, "two")
    sent, found = asked(store, ["n", 1, "two"])
    assert sent is None
    assert found.checkpoint == ("n", 2, 1, "two")


def test_what_came_behind_the_checkpoint(store: SQLiteStore) -> None:
    """By claim and number: those of a later claim begin anew. And what still runs."""
    commit(
        store,
        [
            saved(1, node_id="done"),
            saved(2, node_id="runs", status=Status.RUNNING),
            saved(3, "state", node_id="checkpoint"),
            saved(4, node_id="behind"),
        ],
    )
    assert ids(asked(store, behind=True)[1]) == ["runs", "behind"]
    commit(store, [saved(1, node_id="later", claim="two")])
    assert ids(asked(store, behind=True)[1]) == ["runs", "behind", "later"]
    assert ids(asked(store)[1]) == ["done", "runs", "checkpoint", "behind", "later"]
