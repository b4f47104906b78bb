"""Each thread has its own compressors; what one does is nothing to the others."""

from __future__ import annotations

import random
import threading

import pytest
import zstandard

from livingai import codecs
from livingai.codecs import blob
from livingai.errors import CorruptBlobError

_MANY = 1 << 30


def test_threads_encode_and_decode_at_once() -> None:
    wrong: list[object] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        before: bytes | None = None
        for _ in range(150):
            words = [rng.choice([b"alpha ", b"beta ", b"gamma "]) for _ in range(2000)]
            state = (before or b"")[: rng.randrange(20_000)] + b"".join(words)
            level = rng.choice([-1, 1, 3, 5, 7, 9])
            encoded = codecs.encode(state, base=before, level=level)
            known = {codecs.content_hash(before): before} if before else {}
            found = codecs.decode(encoded.blob, fetch_base=known.__getitem__, max_bytes=_MANY)
            if found != state:
                wrong.append((seed, level))
            before = state

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_damaged_blob_spoils_nothing_that_comes_after_it() -> None:
    state = b"a state of many words " * 5000
    whole = codecs.encode(state, codec="zstd").blob
    for at in range(1, len(whole), 7):
        hurt = bytearray(whole)
        hurt[at] ^= 0xFF
        with pytest.raises(CorruptBlobError):
            codecs.decode(hurt, max_bytes=_MANY, expected_hash=codecs.content_hash(state))
        assert codecs.decode(whole, max_bytes=_MANY) == state
        assert codecs.encode(state, codec="zstd").blob == whole


def test_each_kind_of_frame_keeps_its_form() -> None:
    """A whole state's frame has a checksum, a delta's literals, whose state has one, have none."""
    state = b"a state of many words " * 500
    changed = state[:5000] + b"something else, which no other has " * 20 + state[5000:]
    for _ in range(3):
        whole = codecs.encode(state, codec="zstd").blob
        assert zstandard.get_frame_parameters(whole[1:]).has_checksum
        delta = codecs.encode(changed, codec="delta", base=state).blob
        frame = delta[delta.index(zstandard.FRAME_HEADER) :]
        assert not zstandard.get_frame_parameters(frame).has_checksum


def test_a_thread_keeps_little() -> None:
    codecs.encode(b"small " * 100, codec="zstd", level=1)
    kept = dict(blob._own.compressors)
    codecs.encode(bytes(3_000_000), codec="zstd", level=1)
    codecs.encode(b"small " * 100, codec="zstd", level=9)
    assert blob._own.compressors == kept
    for level in range(-9, 4):
        codecs.encode(b"small " * 100, codec="zstd", level=level)
    assert len(blob._own.compressors) <= 4
