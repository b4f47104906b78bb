"""States that are packed by several threads at once, or change while they are packed."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from livingai.errors import StateEncodingError
from livingai.serial import pack, unpack
from tests.support.serialized import Foreign


def test_threads_do_not_disturb_each_other() -> None:
    moment = datetime(2024, 1, 1, tzinfo=Foreign())
    values = [{"n": n, "t": [(n, moment)] * 50, "s": "x" * n * 100} for n in range(8)]
    expected = [pack(value) for value in values]
    start = threading.Barrier(8)
    wrong: list[int] = []

    def work(n: int) -> None:
        start.wait()
        wrong.extend(n for _ in range(100) if pack(values[n]) != expected[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_packing_while_packing() -> None:
    inner: list[bytes] = []

    class Curious(Foreign):
        def utcoffset(self, moment: datetime | None) -> timedelta | None:
            inner.append(pack([1, (2,)]))
            return timedelta(0)

    packed = pack([7, datetime(2024, 1, 1, tzinfo=Curious()), (8,)])
    assert unpack(packed) == [7, datetime(2024, 1, 1, tzinfo=UTC), (8,)]
    assert inner
    assert {unpack(data)[1] for data in inner} == {(2,)}  # type: ignore[index]


@pytest.mark.parametrize("change", ["append", "pop"])
def test_list_that_changes_meanwhile_is_never_stored_wrong(change: str) -> None:
    state: list[Any] = [0, None, 1, 2, 3]

    class Meddler(Foreign):
        def utcoffset(self, moment: datetime | None) -> timedelta | None:
            state.append(9) if change == "append" else state.pop()
            return timedelta(0)

    state[1] = datetime(2024, 1, 1, tzinfo=Meddler())
    with pytest.raises(StateEncodingError, match="another thread"):
        pack(state)


def test_slow_packer_works_on_a_copy() -> None:
    state: list[Any] = [bytearray(b"x"), None, 1]

    class Meddler(Foreign):
        def utcoffset(self, moment: datetime | None) -> timedelta | None:
            state.append(9)
            return timedelta(0)

    state[1] = datetime(2024, 1, 1, tzinfo=Meddler())
    after = unpack(pack(state))
    assert isinstance(after, list)
    assert after[:3] == [bytearray(b"x"), datetime(2024, 1, 1, tzinfo=UTC), 1]
