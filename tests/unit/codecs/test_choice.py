"""Which codec ``auto`` chooses for a state and its base, and how the two are compared."""

import random
import time
from collections.abc import Callable

import pytest

from livingai.codecs import Codec, Encoded, content_hash, decode, encode
from livingai.codecs.copies import compare
from tests.support.blobs import BASE, GROWN, MB, MESSAGES, STATES, chat, decoded, messages


def _shuffled() -> bytes:
    items = list(MESSAGES)
    random.Random(5).shuffle(items)
    return chat(items)


def _edited(every: int) -> bytes:
    return chat(
        [
            {**item, "content": "EDIT" + item["content"]} if n % every == 1 else item
            for n, item in enumerate(MESSAGES)
        ]
    )


def _overwritten(spots: range) -> bytes:
    state = bytearray(BASE)
    for start in spots:
        state[start : start + 4] = b"EDIT"
    return bytes(state)


def _overwritten_where_samples_are_taken() -> bytes:
    edited = _overwritten(range(900, len(BASE), 900)) + random.Random(11).randbytes(10_000)
    state = bytearray(edited)
    for eighth in (1, 3, 5, 7):
        start = eighth * len(state) // 8
        state[start : start + 32] = bytes(32)
    return bytes(state)


def _mixed(share: float) -> bytes:
    """As much of the base, and then something else."""
    cut = int(share * len(BASE))
    return BASE[:cut] + chat(messages(200, seed=9))[cut:]


def _phrase_base() -> bytes:
    chance = random.Random(12)
    phrase = b"a phrase that stands in every message of this conversation"
    parts = [chance.randbytes(442) + phrase for _ in range(40)]
    return b"".join(parts)


def _phrase_state() -> bytes:
    # Where the first sample is taken there is a phrase that also occurs somewhere before.
    cut = 2005
    base = _phrase_base()
    phrase_at = base.index(b"a phrase", cut + 1500)
    fresh = random.Random(13).randbytes(2048 - (phrase_at - cut))
    return base[:cut] + fresh + base[cut:]


def _edited_all_over() -> bytes:
    return b"EDIT".join(BASE[start : start + 200] for start in range(0, len(BASE), 200))


CHOICES: dict[str, tuple[Callable[[], bytes], bytes | None, Codec, int]] = {
    "small": (lambda: b"x" * 255, None, Codec.RAW, 256),
    "small with base": (lambda: BASE[:255], BASE, Codec.RAW, 256),
    "no longer small": (lambda: b"x" * 256, None, Codec.ZSTD, 50),
    "incompressible": (lambda: STATES["random"], None, Codec.RAW, 100_001),
    "incompressible, other base": (lambda: STATES["random"], BASE, Codec.RAW, 100_001),
    "no base": (lambda: GROWN, None, Codec.ZSTD, len(GROWN) // 2),
    "same": (lambda: BASE, BASE, Codec.DELTA, 60),
    "message appended": (lambda: GROWN, BASE, Codec.DELTA, 700),
    "message removed at the end": (lambda: BASE, GROWN, Codec.DELTA, 200),
    "half of a small state": (
        lambda: GROWN[-600:-300] + b"!" * 300,
        GROWN[-600:],
        Codec.DELTA,
        150,
    ),
    "edited in place": (
        lambda: BASE[:50_000] + b"EDIT" + BASE[50_004:],
        BASE,
        Codec.DELTA,
        100,
    ),
    "inserted early": (
        lambda: chat([*MESSAGES[:3], *messages(2, seed=2), *MESSAGES[3:]]),
        BASE,
        Codec.DELTA,
        1200,
    ),
    "removed early": (lambda: chat([*MESSAGES[:3], *MESSAGES[20:]]), BASE, Codec.DELTA, 200),
    "shifted by a byte": (lambda: b"\x00" + BASE, BASE, Codec.DELTA, 120),
    "new first key": (lambda: b"\x83\xa1k\x01" + BASE[1:], BASE, Codec.DELTA, 120),
    "incompressible tail": (
        lambda: BASE + STATES["random"][:20_000],
        BASE,
        Codec.DELTA,
        20_100,
    ),
    "edited here and there": (lambda: _edited(20), BASE, Codec.DELTA, 1000),
    "a third and more": (lambda: _mixed(0.4), BASE, Codec.DELTA, int(0.4 * len(BASE))),
    "less than a third": (lambda: _mixed(0.25), BASE, Codec.ZSTD, len(BASE) // 2),
    "overwritten in many spots": (
        lambda: _overwritten(range(700, len(BASE), 700)),
        BASE,
        Codec.PREFIX,
        5000,
    ),
    "overwritten in too many spots": (
        _overwritten_where_samples_are_taken,
        BASE,
        Codec.DELTA,
        len(BASE) * 3 // 4,
    ),
    "misleading phrase": (_phrase_state, _phrase_base(), Codec.DELTA, 700),
    "reordered": (_shuffled, BASE, Codec.PREFIX, 5000),
    "edited all over": (_edited_all_over, BASE, Codec.PREFIX, 6000),
    "unrelated": (lambda: chat(messages(200, seed=9)), BASE, Codec.ZSTD, len(BASE) // 2),
}


@pytest.mark.parametrize(("state", "base", "codec", "at_most"), CHOICES.values(), ids=CHOICES)
def test_auto_chooses(
    state: Callable[[], bytes], base: bytes | None, codec: Codec, at_most: int
) -> None:
    encoded = encode(state(), base=base)
    assert Codec(encoded.codec) is codec
    assert len(encoded.blob) <= at_most
    assert decoded(encoded, base) == state()


def test_large_region_replaced_in_place() -> None:
    chance = random.Random(14)
    base = chance.randbytes(400_000)
    state = base[:100_000] + chance.randbytes(150_000) + base[250_000:]
    comparison = compare(state, base)
    assert comparison.complete
    assert comparison.copied_bytes == 250_000
    assert len(encode(state, base=base).blob) < 150_100


def test_prefix_serves_large_states() -> None:
    items = messages(4000)
    base = chat(items)
    random.Random(5).shuffle(items)
    encoded = encode(chat(items), base=base)
    assert encoded.codec == Codec.PREFIX
    assert len(encoded.blob) < len(base) // 20  # 1/3 with zstd's own parameters
    assert decoded(encoded, base) == chat(items)


def test_chain_of_appends() -> None:
    store: dict[bytes, Encoded] = {}

    def fetch(name: bytes) -> bytes:
        return decode(store[name].blob, fetch_base=fetch, max_bytes=MB)

    state, base = b"", None
    for count in range(1, 40):  # past 16, where the array's header grows and shifts everything
        state = chat(MESSAGES[:count], step=count)
        store[content_hash(state)] = encode(state, base=base)
        base = state
    assert fetch(content_hash(state)) == state
    assert sum(item.codec == Codec.DELTA for item in store.values()) >= 36
    assert sum(len(item.blob) for item in store.values()) < 2.5 * len(state)


def test_append_is_encoded_much_faster_than_by_zstd() -> None:
    base = chat(messages(1450))
    state = chat(messages(1451))

    def best_ns(codec: str) -> int:
        def once() -> int:
            begun = time.thread_time_ns()
            encode(state, codec=codec, base=base)
            return time.thread_time_ns() - begun

        return min(once() for _ in range(20))

    # 25 times is typical: 0.08 ms and 2.1 ms for 0.8 MB.
    assert best_ns("auto") * 5 < best_ns("zstd")


def test_copies_are_ordered_true_and_disjoint() -> None:
    state = chat([*MESSAGES[:9], *messages(1, seed=2), *MESSAGES[11:90], *MESSAGES[120:]])
    state = state[:30_000] + b"edit" + state[30_004:] + BASE[:1000]
    comparison = compare(state, BASE)
    done = 0
    for start, source, length in comparison.copies:
        assert start >= done
        assert length >= 32
        assert state[start : start + length] == BASE[source : source + length]
        done = start + length
    assert done <= len(state)
    assert comparison.complete
    assert comparison.copied_bytes > 0.9 * len(state)


def test_hopeless_comparison_is_bounded() -> None:
    # At each block there is something to find, and nothing holds.
    chance = random.Random(6)
    probe = chance.randbytes(64)
    base = b"".join(probe + chance.randbytes(4032) for _ in range(500))
    state = b"".join(probe + chance.randbytes(4032) for _ in range(500))
    used_s = []
    for _ in range(3):
        begun = time.thread_time()
        comparison = compare(state, base)
        used_s.append(time.thread_time() - begun)
        assert not comparison.complete
    assert min(used_s) < 0.05  # 4 ms is typical; without a limit on searches 200 ms
