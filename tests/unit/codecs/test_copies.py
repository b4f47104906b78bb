"""Where a state and its base part: found exactly, from either side."""

from __future__ import annotations

import random

import pytest

from livingai.codecs.copies import _Matcher, compare


@pytest.mark.parametrize("size", [1, 2, 31, 255, 256, 257, 1000, 4096, 65_536, 65_537, 200_000])
def test_the_first_and_the_last_difference_are_found_to_the_byte(size: int) -> None:
    rng = random.Random(size)
    base = rng.randbytes(size)
    for place in {0, size // 3, size // 2, size - 1}:
        state = bytearray(base)
        state[place] ^= 1 << rng.randrange(8)
        matcher = _Matcher(bytes(state), memoryview(base), base.find)
        assert matcher.equal_after(0, 0) == place
        assert matcher.equal_before(size, 0) == size - 1 - place
    matcher = _Matcher(base, memoryview(base), base.find)
    assert matcher.equal_after(0, 0) == matcher.equal_before(size, 0) == size


@pytest.mark.parametrize("seed", range(40))
def test_what_is_said_to_be_a_copy_is_one(seed: int) -> None:
    rng = random.Random(seed)
    base = bytes(rng.choices(b"abcd", k=rng.randrange(1, 30_000)))
    state = bytearray(base)
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(state) + 1)
        state[at : at + rng.choice([0, 1, 40])] = rng.randbytes(rng.choice([0, 1, 5, 300]))
    done = 0
    for copy in compare(bytes(state), base).copies:
        assert copy.start >= done
        assert state[copy.start :][: copy.length] == base[copy.source :][: copy.length]
        assert copy.length > 0
        done = copy.start + copy.length
    assert done <= len(state)
