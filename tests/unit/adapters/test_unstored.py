"""Pages with entries that are not stored yet are those that the store would give if they were."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from livingai import ExecutionNode, NodeRange
from livingai.adapters.unsettled import LogEntry
from livingai.adapters.unstored import UNSTORED_EPOCH, with_unstored
from livingai.protocol.ranges import NodePage, RangedNode

NAMES = [f"{letter}{number}" for letter in "abc" for number in range(5)]


def node(name: str) -> ExecutionNode:
    """With that id."""
    return ExecutionNode("x", id=name, metadata={"name": name})


class Log:
    """What the store has, in pages that may end early, and what it has not."""

    def __init__(self, stored: list[str], unstored: list[str], states: bool, early: int) -> None:
        self.stored = [
            RangedNode(node(name), {"of": name} if states else None, (1, at), (1, at))
            for at, name in enumerate(stored)
        ]
        self.unstored = [LogEntry(node(name), {"of": name}) for name in unstored]
        for number, entry in enumerate(self.unstored, 1):
            entry.number = number
        self.early = early

    def page(self, asked: NodeRange) -> NodePage:
        """What the store answers."""
        found = [each for each in self.stored if asked.has(each.node.id, each.first)]
        found.sort(key=lambda each: each.node.id, reverse=asked.backwards)
        part = found[: min(asked.limit, self.early)]
        rest = asked.rest(part[-1].node.id) if len(part) < len(found) else None
        return NodePage(tuple(part), rest)

    def read(self, asked: NodeRange | None) -> list[RangedNode]:
        """All pages, put together."""
        read: list[RangedNode] = []
        while asked is not None:
            page = with_unstored(self.page(asked), asked, self.unstored)
            assert len(page) <= asked.limit
            assert page.rest is None or page.nodes
            read += page.nodes
            asked = page.rest
        return read


RANGES = st.builds(
    NodeRange,
    first=st.sampled_from(["", "a3", "b", "b2"]),
    behind=st.sampled_from([None, "b4", "c", "c1"]),
    limit=st.integers(1, 20),
    backwards=st.booleans(),
    states=st.booleans(),
)


@example(stored={"a0", "a2"}, unstored=["a1", "b0"], asked=NodeRange(), early=1)
@example(stored={"a2", "b1"}, unstored=["a1", "b0"], asked=NodeRange(backwards=True), early=1)
@given(
    stored=st.sets(st.sampled_from(NAMES)),
    unstored=st.lists(st.sampled_from(NAMES), unique=True),
    asked=RANGES,
    early=st.integers(1, 20),
)
def test_pages_put_together_are_the_range(
    stored: set[str], unstored: list[str], asked: NodeRange, early: int
) -> None:
    """An entry may be in both: it was stored while the question was on its way."""
    log = Log(sorted(stored), unstored, asked.states, early)
    read = log.read(asked)
    expected = {name for name in stored | set(unstored) if asked.has(name, (1, 0))}
    assert [each.node.id for each in read] == sorted(expected, reverse=asked.backwards)
    for each in read:
        assert each.state == ({"of": each.node.id} if asked.states else None)
        assert each.node.metadata == {"name": each.node.id}
        is_stored = each.node.id in stored
        assert each.first == each.version
        assert (each.first[0] == UNSTORED_EPOCH) != is_stored
    own = [each for each in read if each.first[0] == UNSTORED_EPOCH]
    own.sort(key=lambda each: each.first)
    assert [each.node.id for each in own] == [
        name for name in unstored if name in expected and name not in stored
    ], "versions are not in the order in which the entries were appended"


def test_who_reads_an_entry_may_change_it() -> None:
    log = Log([], ["a0"], True, 1)
    (found,) = log.read(NodeRange())
    found.state["of"] = found.node.metadata["name"] = "another"
    (again,) = log.read(NodeRange())
    assert again.state == {"of": "a0"}
    assert again.node.metadata == {"name": "a0"}


def test_a_window_of_versions_ends_before_what_is_not_stored() -> None:
    log = Log(["a0", "a1"], ["a2"], True, 9)
    assert [each.node.id for each in log.read(NodeRange(upto=(1, 1)))] == ["a0", "a1"]
    assert [each.node.id for each in log.read(NodeRange(after=(1, 0)))] == ["a1", "a2"]
