"""What is compared before a message, or the rows in it, is believed."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from livingai import ExecutionNode, serial
from livingai.errors import (
    ConfigurationError,
    CorruptRecordError,
    CorruptRowError,
    LivingAIError,
    ServiceError,
)
from livingai.protocol.error_parts import error_from_parts
from livingai.protocol.executions import (
    MAX_PAGE,
    executions_from_wire,
    executions_to_wire,
    filter_from_wire,
    page_of,
    page_request,
)
from livingai.protocol.frames import LENGTH, FrameBuffer, frame, parse
from livingai.protocol.history import checked_message, pack_history, place_of, unpack_history
from livingai.protocol.sections import Cached, decode_checkpoint, decode_state
from livingai.protocol.verbs import LATEST
from livingai.queue.layout import Kind, owner_token
from livingai.queue.record import Record, RecordHeader, pack_record, parse_header
from livingai.stores.records import ExecutionInfo, PackedNode

BOUND = 100
MARKED = {"a": (1,)}


def framed(size: int) -> bytes:
    """A frame whose body has so many bytes."""
    message = frame(1, b"x" * (size - 4))
    assert len(message) == LENGTH.size + size
    return message


@pytest.mark.parametrize("cut", [0, 3, 4, 5])
def test_the_bound_of_a_message(cut: int) -> None:
    """Whole, or its beginning alone: it is refused before the rest of it is waited for."""
    for size in (BOUND - 1, BOUND):
        data, buffer = framed(size), FrameBuffer(BOUND)
        parts = (data[:cut], data[cut:]) if cut else (data,)
        found = [message for part in parts for message in buffer.feed(part)]
        assert found == [[1, b"x" * (size - 4)]]
    for size in (BOUND + 1, BOUND + 2, 2 * BOUND):
        data, buffer = framed(size), FrameBuffer(BOUND)
        if 0 < cut < LENGTH.size:
            assert list(buffer.feed(data[:cut])) == []
            data = data[cut:]
        elif cut:
            data = data[:cut]
        with pytest.raises(ValueError, match=f"a frame of {size} bytes"):
            list(buffer.feed(data))


def test_the_bound_in_the_middle_of_a_stream() -> None:
    messages = FrameBuffer(BOUND).feed(framed(20) + framed(BOUND + 1))
    assert next(messages) == [1, b"x" * 16]
    with pytest.raises(ValueError, match="a frame of"):
        next(messages)


def test_two_frames_at_once_are_two_messages() -> None:
    assert len(list(FrameBuffer().feed(framed(20) + framed(30)))) == 2


@pytest.mark.parametrize("body", [b"\x90", b"\x01", b"\x81\x01\x02", b"\xc0", b"\xa1x", b""])
def test_what_is_no_message(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what msgpack says, too
        parse(body)


# -- rows ------------------------------------------------------------------------------------------


def packed(*nodes: ExecutionNode, epoch: int = 1) -> list[PackedNode]:
    return [
        PackedNode(serial.pack(node.to_wire()), epoch, seq, bool(seq % 2), "pending")
        for seq, node in enumerate(nodes)
    ]


def test_a_history_comes_back() -> None:
    nodes = [ExecutionNode("run", output=value) for value in (1, MARKED, [2], MARKED)]
    message = pack_history(("n", 1, 2, None), [1, b"state"], packed(*nodes))
    sent = parse(frame(*message)[LENGTH.size :])
    history = unpack_history(checked_message(sent), None, "run")
    assert history.state == b"state"
    assert [found.node for found in history.nodes] == nodes
    assert [(f.epoch, f.seq, f.has_state) for f in history.nodes] == [
        (1, 0, False), (1, 1, True), (1, 2, False), (1, 3, True),
    ]  # fmt: skip


def test_the_execution_of_a_row() -> None:
    message = pack_history(None, None, packed(ExecutionNode("run"), ExecutionNode("other")))
    assert len(unpack_history(message, None).nodes) == 2
    with pytest.raises(CorruptRowError, match="of another one"):
        unpack_history(message, None, "run")
    section = serial.pack(ExecutionNode("other").to_wire())
    assert decode_checkpoint(section, 0, None, None)[0].execution_id == "other"
    with pytest.raises(CorruptRowError, match="a row of another one"):
        decode_checkpoint(section, 0, None, "run")


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_is_as_it_was(collects: bool) -> None:
    """A program that does without it does so behind a read, too."""
    message = pack_history(None, None, packed(ExecutionNode("run")))
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        unpack_history(message, None)
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()


def test_the_epoch_of_a_row() -> None:
    last = (1 << 32) - 1
    message = pack_history(None, None, packed(ExecutionNode("run"), epoch=last))
    assert unpack_history(message, None).nodes[0].epoch == last
    with pytest.raises(CorruptRowError, match="epoch"):
        pack_history(None, None, packed(ExecutionNode("run"), epoch=last + 1))


@pytest.mark.parametrize("change", [-13, 13])
def test_as_many_versions_as_nodes(change: int) -> None:
    message = pack_history(None, None, packed(ExecutionNode("run"), ExecutionNode("run")))
    message[4] = message[4][:change] if change < 0 else message[4] + bytes(change)
    with pytest.raises(CorruptRowError):
        unpack_history(message, None, "run")


GOOD: list[Any] = [["n", 1, 2, None], [1, b""], b"\xdd\0\0\0\0", [[0, b""]], bytes(13)]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (0, ["n", 1, 2]), (0, [1, 1, 2, None]), (0, ["n", 1.5, 2, None]), (0, "n"),
        (1, [1]), (1, ["1", b""]), (1, [1, "x"]), (1, b"x"),
        (2, "x"), (2, None), (2, []),
        (3, None), (3, [None]), (3, [[0]]), (3, [["0", b""]]), (3, [[0, "x"]]), (3, b""),
        (4, bytes(12)), (4, bytes(14)), (4, "x" * 13), (4, None),
    ],
)  # fmt: skip
def test_the_form_of_a_history(part: int, value: Any) -> None:
    assert checked_message(list(GOOD)) == GOOD
    wrong = list(GOOD)
    wrong[part] = value
    with pytest.raises(TypeError):
        checked_message(wrong)


def cached() -> Cached:
    data = pack_record(
        kind=Kind.WRITE, flags=1, state_kind=1, journal_id=7, segment=1, lsn=1, claim=5, epoch=0,
        seq=9, mono_ns=0, wall_ns=0, key=1, node=b"", ext=b"", state=b"", budget_us=0, length=128,
    )  # fmt: skip
    header = parse_header(data, 0)
    assert isinstance(header, RecordHeader)
    return Cached(ExecutionNode("run"), {"of": "the cache"}, Record(header, b"", b"", b""))


def test_a_state_that_the_agent_has_is_not_sent() -> None:
    hit = cached()
    assert place_of(hit) == [hit.node.id, 9, owner_token(7, 5)]
    assert place_of(None) is None
    message = pack_history(("n", 1, 2, None), None, [])
    assert unpack_history(message, hit).state == {"of": "the cache"}
    assert unpack_history(message, None).state is None
    message = pack_history(("n", 1, 2, None), [1, b"sent"], [])
    assert unpack_history(message, hit).state == b"sent"
    assert unpack_history(pack_history(None, None, []), hit).state is None


@pytest.mark.parametrize("kind", [4, 255, -1])
def test_a_state_of_a_kind_that_is_not_known(kind: int) -> None:
    with pytest.raises(CorruptRecordError, match="knows kinds up to"):
        decode_state(kind, b"")


def test_the_kinds_of_states() -> None:
    assert decode_state(0, b"x") is None
    assert decode_state(1, b"x") == b"x"
    assert decode_state(2, b"\x01") == 1
    assert type(decode_state(3, b"x")) is bytearray


# -- questions and answers -------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [[], [[]], [[], None, None], [[], None, None, {}, 1], "abcd", 7])
def test_a_filter_has_four_parts(wire: Any) -> None:
    assert filter_from_wire([[], None, None, {}]) is not None
    with pytest.raises(ConfigurationError, match="the request's filter"):
        filter_from_wire(wire)


def info(name: str) -> ExecutionInfo:
    return ExecutionInfo(name, *[0] * (len(ExecutionInfo.__dataclass_fields__) - 1))  # type: ignore[arg-type]


def test_a_page_says_whether_another_one_follows() -> None:
    found = [info(name) for name in "abc"]
    assert page_of(found, 3).next_after is None
    assert page_of(found, 4).next_after is None
    page = page_of(found, 2)
    assert ([each.execution_id for each in page], page.next_after) == (["a", "b"], "b")
    assert page_request(None, MAX_PAGE, "", None)[1] == MAX_PAGE + 1
    for limit in (0, MAX_PAGE + 1):
        with pytest.raises(ConfigurationError):
            page_request(None, limit, "", None)


def test_executions_on_the_wire() -> None:
    wire = executions_to_wire([info("a")])
    assert executions_from_wire([[*wire[0], "of a newer service"]]) == [info("a")]
    fields = len(wire[0])
    for wrong in (
        "ab",
        {"a": 1},
        ["a"],
        [("a",)],
        [{"a": 1}],
        None,
        ["x" * fields],
        [bytes(fields)],
    ):
        with pytest.raises(TypeError):
            executions_from_wire(wrong)


@pytest.mark.parametrize("name", ["annotations", "__doc__", "LivingAIError", "ValueError", "Final"])
def test_an_error_is_one_of_ours(name: str) -> None:
    found = error_from_parts([name, "text", []])
    assert isinstance(found, LivingAIError)
    assert str(found) == "text"


SECTION = serial.pack(ExecutionNode("run").to_wire())


@pytest.mark.parametrize(
    "answer",
    [[SECTION, True, b""], [SECTION, "1", b""], [SECTION, 1.0, b""], ["x", 1, b""],
     [SECTION, 1, "x"], [SECTION, 1, 7], [SECTION, 1], 7],
)  # fmt: skip
def test_a_checkpoint_as_an_answer(answer: Any) -> None:
    assert LATEST.read([SECTION, 1, b""]).state == b""
    assert LATEST.read([SECTION, 0, None]).state is None
    with pytest.raises(ServiceError, match="makes no sense"):
        LATEST.read(answer)
