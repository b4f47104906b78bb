"""Properties of codecs that hold for any state, base and damage."""

import random
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from livingai.codecs import Codec, Encoded, base_of, content_hash, decode, encode
from livingai.codecs.copies import compare
from livingai.errors import CorruptBlobError
from livingai.serial import pack, unpack

LIMIT = 1 << 20
WITH_CHECKSUM = ("zstd", "delta", "prefix")


@st.composite
def contents(draw: st.DrawFn, max_size: int = 60_000) -> bytes:
    """Bytes of all kinds: drawn, random, repetitive, text-like; often around block borders."""
    kind = draw(st.sampled_from(["drawn", "random", "repeated", "words"]))
    if kind == "drawn":
        return draw(st.binary(max_size=600))
    border = draw(st.sampled_from([0, 64, 256, 4096, 8192, 65536]))
    around = draw(st.integers(-70, 70)) * draw(st.sampled_from([1, 99]))
    size = min(max_size, max(0, border + around))
    chance = random.Random(draw(st.integers(0, 2**32)))
    if kind == "random":
        return chance.randbytes(size)
    if kind == "repeated":
        unit = draw(st.binary(min_size=1, max_size=80))
        return (unit * (size // len(unit) + 1))[:size]
    words = [chance.randbytes(chance.randrange(3, 9)).hex().encode() for _ in range(300)]
    return b" ".join(chance.choices(words, k=size // 12 + 1))[:size]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A base, and a state made from it by cutting, inserting, overwriting and moving."""
    base = draw(contents())
    state = base
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(state)))
        end = min(len(state), at + draw(st.sampled_from([0, 1, 31, 64, 5000, 30_000])))
        fresh = draw(contents(max_size=9000))
        state = draw(
            st.sampled_from(
                [
                    state[:at] + fresh + state[at:],  # insert
                    state[:at] + state[end:],  # cut
                    state[:at] + fresh[: end - at] + state[end:],  # overwrite
                    state[end:] + state[at:end] + state[:at],  # move
                    state + fresh,  # append
                ]
            )
        )
    return base, state


@given(pairs(), st.sampled_from(["auto", *(codec.name.lower() for codec in Codec)]))
@example((b"", b""), "delta")
@example((b"", b"x" * 300), "prefix")
def test_what_was_encoded_is_decoded(pair: tuple[bytes, bytes], codec: str) -> None:
    base, state = pair
    encoded = encode(state, codec=codec, base=base)
    bases = {content_hash(base): base}
    assert decode(encoded.blob, fetch_base=bases.__getitem__, max_bytes=LIMIT) == state
    assert encoded.raw_size == len(state)
    assert base_of(encoded.blob) == encoded.base_hash
    if codec == "auto":
        assert len(encoded.blob) <= len(state) + 1


@given(pairs())
def test_copies_are_true_ordered_and_disjoint(pair: tuple[bytes, bytes]) -> None:
    base, state = pair
    done = 0
    for start, source, length in compare(state, base).copies:
        assert start >= done
        assert source >= 0
        assert length >= 32
        assert state[start : start + length] == base[source : source + length]
        done = start + length
        assert done <= len(state)
        # Maximal: no copy could have been longer.
        follows = base[source + length : source + length + 1]
        assert done == len(state) or state[done : done + 1] != follows


@given(contents(), contents(max_size=5000))
def test_append_costs_what_was_appended(base: bytes, fresh: bytes) -> None:
    state = base + fresh
    encoded = encode(state, codec="delta", base=base)
    alone = encode(fresh, codec="zstd").blob
    # Head, table, a short base that is not worth a copy, and zstd's own overhead.
    assert len(encoded.blob) <= len(alone) + 33 + 5 + 12 * 2 + 32 + 64


def damaged(data: st.DataObject, blob: bytes, times: int) -> bytes:
    """`blob`, so many times changed, cut or extended somewhere behind the codec's byte."""
    wrong = bytearray(blob)
    for _ in range(times):
        at = data.draw(st.integers(1, max(1, len(wrong) - 1)))
        action = data.draw(st.sampled_from(["change", "remove", "add", "cut"]))
        if action == "change" and at < len(wrong):
            wrong[at] = data.draw(st.integers(0, 255))
        elif action == "remove":
            del wrong[at : at + data.draw(st.integers(1, 9))]
        elif action == "add":
            wrong[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            del wrong[at:]
    return bytes(wrong)


@given(st.data(), st.binary(max_size=300), st.binary(max_size=300), st.sampled_from(WITH_CHECKSUM))
def test_damage_never_decodes_to_other_bytes(
    data: st.DataObject, fresh: bytes, base: bytes, codec: str
) -> None:
    state = base + fresh
    # A zstd frame's checksum has 32 bits and its header says whether there is one, so more than
    # one damage could by chance remove it and change the content.
    times = 1 if codec == "zstd" else data.draw(st.integers(1, 4))
    blob = damaged(data, encode(state, codec=codec, base=base).blob, times)
    try:
        result = decode(blob, fetch_base=lambda _: base, max_bytes=LIMIT)
    except CorruptBlobError:
        return
    assert result == state


@given(st.sampled_from(list(Codec)), st.binary(max_size=300), st.binary(max_size=50))
def test_garbage_is_refused_or_bounded(codec: Codec, garbage: bytes, base: bytes) -> None:
    for body in (garbage, b"\x28\xb5\x2f\xfd" + garbage, bytes(8) + garbage):
        try:
            result = decode(bytes((codec,)) + body, fetch_base=lambda _: base, max_bytes=1000)
        except CorruptBlobError:
            continue
        assert len(result) <= 1000


class Chain(RuleBasedStateMachine):
    """An execution whose states are encoded one on top of the other, and read back at will."""

    states = Bundle("states")

    def __init__(self) -> None:
        super().__init__()
        self.blobs: dict[bytes, Encoded] = {}
        self.latest: Any = None

    @initialize(target=states)
    def begin(self) -> bytes:
        return self.save({"messages": [], "step": 0, "done": (False,)}, None)

    def save(self, value: Any, base: bytes | None) -> bytes:
        raw = pack(value)
        if base is not None and content_hash(raw) in self.blobs:
            return raw  # a state that came back: its blob may not name its own successor
        self.blobs[content_hash(raw)] = encode(raw, base=base)
        self.latest = value
        return raw

    def fetch(self, name: bytes) -> bytes:
        return decode(
            self.blobs[name].blob, fetch_base=self.fetch, max_bytes=LIMIT, expected_hash=name
        )

    @rule(
        target=states,
        base=states,
        text=st.text(max_size=40),
        repeat=st.integers(1, 200),
        count=st.integers(1, 20),
    )
    def add_messages(self, base: bytes, text: str, repeat: int, count: int) -> bytes:
        value: Any = unpack(base)
        value["messages"] += [{"content": text * repeat, "n": n} for n in range(count)]
        value["step"] += 1
        return self.save(value, base)

    @rule(target=states, base=states, keep=st.integers(0, 5))
    def forget_messages(self, base: bytes, keep: int) -> bytes:
        value: Any = unpack(base)
        value["messages"] = value["messages"][-keep:]
        value["step"] += 1
        return self.save(value, base)

    @rule(state=states)
    def read(self, state: bytes) -> None:
        assert self.fetch(content_hash(state)) == state

    @invariant()
    def latest_is_readable(self) -> None:
        if self.latest is not None:
            raw = pack(self.latest)
            assert unpack(self.fetch(content_hash(raw))) == self.latest


TestChain = Chain.TestCase
TestChain.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
