"""What the reader answers to who resumes: the state that it lacks, and what came behind that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from livingai import codecs
from livingai.errors import ServiceError
from livingai.node import Status
from livingai.protocol import verbs
from livingai.protocol.history import History, unpack_history
from livingai.protocol.ranges import RangesAsked, unpack_page
from livingai.stores.base import NodeRange, Row, StoredCheckpoint
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


# -- pages of a range of nodes ---------------------------------------------------------------------


class Counting(SQLiteStore):
    """It notes how many nodes, and bytes of states, each answer had."""

    answers: list[tuple[int, int]]

    def nodes_between(self, execution_id: str, asked: NodeRange) -> list[StoredCheckpoint]:
        found = super().nodes_between(execution_id, asked)
        self.answers.append((len(found), sum(len(each.blob or b"") for each in found)))
        return found


def whole(seq: int, name: str, raw: bytes) -> Row:
    """A node with a state that decodes."""
    row = make_row(RUN, seq, node_id=name, blob=b"\0" + raw, content_hash=codecs.content_hash(raw))
    row.raw_bytes = len(raw)
    return row


def paged(store: SQLiteStore, asked: NodeRange) -> tuple[list[list[str]], list[tuple[int, int]]]:
    """The ids of each page until there are no more, and what the store was asked for."""
    counting = Counting(store.path)
    counting.answers = []
    pages: list[list[str]] = []
    rest: NodeRange | None = asked
    with closing(ReaderRole(counting)) as role:
        while rest is not None:
            page = unpack_page(verbs.NODES_BETWEEN.read(role.do_nodes_between(RUN, rest.to_wire())),
                               rest, RUN)  # fmt: skip
            pages.append([each.node.id for each in page])
            rest = page.rest
    return pages, counting.answers


@pytest.mark.parametrize("backwards", [False, True])
def test_a_page_ends_where_its_states_are_large(store: SQLiteStore, backwards: bool) -> None:
    """The store is not asked for all that the limit allows: it would read the states of all."""
    names = [f"{number:03}" for number in range(60)]
    for seq, name in enumerate(names):
        commit(store, [whole(seq, name, b"%03d" % seq + bytes(1_000_000))])
    pages, answers = paged(store, NodeRange(limit=1000, backwards=backwards))
    assert [name for page in pages for name in page] == names[:: -1 if backwards else 1]
    assert {len(page) for page in pages[:-1]} == {9}, "8 MB and the one that is beyond"
    assert max(count for count, _ in answers) == 16


def test_ranges_that_do_not_fit_into_an_answer_are_asked_again(store: SQLiteStore) -> None:
    """Each has its first node in the end, and none is taken for empty."""
    names = [f"{number:03}" for number in range(30)]
    for seq, name in enumerate(names):
        commit(store, [whole(seq, name, b"%03d" % seq + bytes(1_000_000))])
    ranges = [NodeRange(name, name + "\0", 1) for name in names]
    ranges += [NodeRange("x"), NodeRange(limit=20), NodeRange(states=False)]
    asked = RangesAsked(RUN, ranges)
    answers = 0
    with closing(ReaderRole(SQLiteStore(store.path))) as role:
        while asked.left:
            pages = verbs.NODE_PAGES.read(role.do_node_pages(RUN, asked.to_wire()))
            assert sum(len(entry.state or b"") for page in pages for entry in page.entries) < 10e6
            asked.take(pages)
            answers += 1
    found = [[each.node.id for each in page] for page in asked.pages]
    assert found == [*([name] for name in names), [], names[:6], names]
    assert asked.pages[-2].rest == NodeRange("005\0", limit=20)
    assert [page.rest for page in asked.pages[:31]] == [
        *(NodeRange(f"{name}\0", f"{name}\0", 1) for name in names), None,
    ]  # fmt: skip
    assert answers == 5
    with pytest.raises(ServiceError, match="0 pages to 1 ranges"):
        RangesAsked(RUN, ranges[:1]).take([])
    with pytest.raises(ServiceError, match="1 pages to 1 ranges"):
        RangesAsked(RUN, ranges[:1]).take([verbs.PackedPage([], more=True)])


@pytest.mark.parametrize("limit", [1, 15, 16, 17, 100, 150, 151])
def test_small_nodes_come_in_pages_as_large_as_asked(store: SQLiteStore, limit: int) -> None:
    names = [f"{number:03}" for number in range(150)]
    commit(store, [whole(seq, name, name.encode()) for seq, name in enumerate(names)])
    for states in (True, False):
        pages, answers = paged(store, NodeRange(limit=limit, states=states))
        assert [name for page in pages for name in page] == names
        assert {len(page) for page in pages[: len(names) // limit]} <= {limit}
        assert len(pages) == len(names) // limit + 1
        assert len(answers) <= len(pages) * 2, "a few, then all the others"
