"""Pages of outcomes as they travel."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from livingai.errors import ServiceError
from livingai.protocol.verbs import WATCH
from livingai.protocol.watched import WatchedOutcome, WatchedPage, page_to_wire

SEEN = WatchedOutcome(
    1.5, "run", "node", "tool", "success", "met", "store", 2.5, 4096, ""
)  # fmt: skip
PAGE = WatchedPage("a1b2", 7, 3, [SEEN, SEEN._replace(outcome="fenced", reason="taken over")])


def wire(page: WatchedPage = PAGE) -> list[Any]:
    found: list[Any] = msgpack.unpackb(msgpack.packb(page_to_wire(page)))
    return found


def test_what_is_sent_is_what_is_read() -> None:
    assert WATCH.read(wire()) == PAGE
    empty = WatchedPage("a1b2", 7, 0, [])
    assert WATCH.read(wire(empty)) == empty


def test_a_newer_service_says_more_of_an_outcome() -> None:
    answer = wire()
    for line in answer[3]:
        line.append("more")
    assert WATCH.read(answer) == PAGE


@pytest.mark.parametrize(
    "answer",
    [None, 7, [], ["a", 1, 2], ["a", "1", 2, []], [1, 1, 2, []], ["a", 1, 2, {}], ["a", 1, 2, [7]],
     ["a", 1, 2, [[]]], ["a", 1, 2, [[1.0, 7, "n", "t", "s", "o", "l", 1.0, 1, ""]]],
     ["a", 1, 2, [["x", "r", "n", "t", "s", "o", "l", 1.0, 1, ""]]]],
)  # fmt: skip
def test_anything_else_is_an_error_of_the_service(answer: Any) -> None:
    with pytest.raises(ServiceError, match="makes no sense"):
        WATCH.read(answer)
