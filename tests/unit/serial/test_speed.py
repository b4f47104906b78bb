"""Plain states are packed about as fast as by msgpack itself."""

import itertools
import time as clock
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest

from livingai.errors import StateEncodingError
from livingai.serial import pack
from livingai.serial.shape import is_ambiguous
from tests.support.serialized import BERLIN, assert_survives


def test_plain_states_are_packed_at_msgpack_speed() -> None:
    state = {
        "messages": [
            {"role": "user", "content": f"message {n} " * 30, "id": f"{n:032x}", "at": n / 7}
            for n in range(220)
        ]
    }

    def best_ns(call: Any) -> int:
        def once() -> int:
            begun = clock.thread_time_ns()
            call(state)
            return clock.thread_time_ns() - begun

        return min(once() for _ in range(100))

    # Processor time; 1.5 is typical.
    assert best_ns(pack) < 3 * best_ns(msgpack.packb)


def test_search_stays_within_the_value() -> None:
    # Following every reference would lead from a UUID to its class and all of the interpreter.
    value = [UUID(int=1), Decimal(1), datetime(2024, 1, 1, tzinfo=BERLIN), {"k": [UUID(int=2)]}]
    assert not is_ambiguous(value)
    assert is_ambiguous([*value, [{"k": bytearray()}]])


def test_vector_is_searched_for_ambiguous_types() -> None:
    for odd in (bytearray(b"x"), (1, 2), 2**70, 2**2000, Decimal(1), "a"):
        for place in (0, 1, 19):
            vector: list[Any] = list(itertools.repeat(1.5, 20))
            vector[place] = odd
            assert_survives([vector, vector])
    with pytest.raises(StateEncodingError, match=r"^state\[0\]\[5\]: "):
        pack([[1] * 5 + [memoryview(b"x")] + [1] * 20])
