"""Frames cut out of whatever pieces a socket gives."""

from __future__ import annotations

import random

import pytest

from livingai.protocol.frames import FrameBuffer, frame


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_size_give_the_messages_that_were_sent(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [0, 1, 4000, 4087, 4096, 70_000]  # around what is parsed without being kept first
    messages = [[1, number, b"x" * rng.choice(sizes)] for number in range(30)]
    stream = b"".join(frame(*message) for message in messages)
    buffer, at = FrameBuffer(), 0
    found: list[object] = []
    while at < len(stream):
        length = rng.choice([1, 3, 4, 5, 100, 5000, 80_000])
        found += buffer.feed(stream[at : at + length])
        at += length
    assert found == messages


def test_one_frame_at_a_time_behind_a_part_of_one() -> None:
    first, second = frame(1, "first"), frame(2, "second")
    buffer = FrameBuffer()
    assert list(buffer.feed(first[:6])) == []
    assert list(buffer.feed(first[6:])) == [[1, "first"]]
    assert list(buffer.feed(second)) == [[2, "second"]]


@pytest.mark.parametrize("lead", [b"", b"\x02"])
def test_a_frame_above_the_limit_is_refused_however_it_comes(lead: bytes) -> None:
    buffer = FrameBuffer(max_bytes=20)
    with pytest.raises(ValueError, match="a frame of"):
        list(buffer.feed(lead + frame(1, b"y" * 40)))


def test_the_rest_of_a_message_may_look_like_one() -> None:
    inner = frame(5, "inner")
    outer = frame(1, inner)
    assert outer.endswith(inner)
    buffer = FrameBuffer()
    assert list(buffer.feed(outer[: -len(inner)])) == []
    assert list(buffer.feed(inner)) == [[1, inner]]
