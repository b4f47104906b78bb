"""Whatever bytes are read, they are read as what they are or refused with an error of ours, at a
memory that is bounded, and nothing in them is called.

Valid bytes are cut, flipped, spliced, repeated, and given lengths at the edges of what fits. The
files of ``tests/data/corpus/`` (a folder per reader; its README says what each holds) are read each
time, and changed as well. ``LIVINGAI_FUZZ_EXAMPLES`` is the number of examples for each reader.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.readers import CORPUS, MB, MEMORY, READERS, TIMES, Reader, check, corpus_of

EXAMPLES = int(os.environ.get("LIVINGAI_FUZZ_EXAMPLES", "60"))


def _takes_memory(data: bytes) -> None:
    bytearray(MEMORY + (TIMES + 1) * len(data) + MB)


def _raises(data: bytes) -> None:
    raise KeyError(data)


def _unpickles(data: bytes) -> None:
    pickle.loads(pickle.dumps(Path))


def _connects(data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.connect("/nothing")


def _starts_a_program(data: bytes) -> None:
    os.system("true")  # noqa: S605 - what it is about


@pytest.mark.parametrize("read", [_takes_memory, _raises, _unpickles, _connects, _starts_a_program])
def test_a_reader_that_does_what_none_may_is_noticed(read: Callable[[bytes], None]) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(Reader(read, b""), b"data")


EDGES = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
PLACE = st.floats(0, 1, exclude_max=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
        st.tuples(st.just("cut"), PLACE, st.integers(1, 64)),
        st.tuples(st.just("end"), PLACE, st.just(0)),
        st.tuples(st.just("repeat"), PLACE, st.integers(1, 64)),
        st.tuples(st.just("move"), PLACE, st.integers(1, 64)),
        st.tuples(st.just("edge"), PLACE, st.integers(0, 8 * len(EDGES) - 1)),
        st.tuples(st.just("add"), PLACE, st.integers(0, 255)),
    ),
    min_size=1, max_size=5,
)  # fmt: skip


def changed(valid: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    """``valid``, with the changes done to it in turn."""
    data = bytearray(valid)
    for what, place, number in changes:
        at = int(place * len(data))
        if not data:
            break
        if what == "flip":
            data[at] ^= 1 << number
        elif what == "cut":
            del data[at : at + number]
        elif what == "end":
            del data[at:]
        elif what == "repeat":
            data[at:at] = data[at : at + number] * 20
        elif what == "move":
            part = data[at : at + number]
            del data[at : at + number]
            data[len(data) // 2 : len(data) // 2] = part
        elif what == "add":
            data[at:at] = bytes((number,))
        else:
            size, order = (1, 2, 4, 8)[number % 4], "big" if number % 8 < 4 else "little"
            edge = EDGES[number // 8] & ((1 << 8 * size) - 1)
            data[at : at + size] = edge.to_bytes(size, order)  # type: ignore[arg-type]
    return bytes(data)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_is_valid_is_read(reader: Reader) -> None:
    reader.read(reader.valid)
    assert reader.summed(reader.valid) == reader.valid


@pytest.mark.parametrize("name", READERS)
def test_the_corpus(name: str) -> None:
    for path in corpus_of(name):
        check(READERS[name], path.read_bytes())


def test_each_folder_of_the_corpus_has_a_reader() -> None:
    kinds = {name.partition("-")[0] for name in READERS}
    folders = {path.name for path in CORPUS.iterdir() if path.is_dir()}
    assert folders
    assert folders <= kinds
    told = (CORPUS / "README.md").read_text()
    for path in CORPUS.glob("*/*.bin"):
        assert f"`{path.parent.name}/{path.name}`" in told


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_changed_bytes(name: str, data: st.DataObject) -> None:
    reader = READERS[name]
    seeds = [reader.valid, *(path.read_bytes() for path in corpus_of(name))]
    valid = data.draw(st.sampled_from(seeds))
    bad = changed(valid, data.draw(CHANGES))
    check(reader, reader.summed(bad) if data.draw(st.booleans(), label="sums fit") else bad)
