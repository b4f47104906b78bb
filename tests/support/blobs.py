"""States like real chats, and blobs of all codecs."""

import random
from typing import Any

import msgpack

from livingai.codecs import Encoded, content_hash, decode

MB = 1 << 20
CODECS = ["raw", "zlib", "zstd", "delta", "prefix"]


def messages(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Chat-like messages of about 540 bytes each."""
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(2000)]
    return [
        {
            "role": chance.choice(["user", "assistant"]),
            "content": " ".join(chance.choices(words, k=65)),
            "id": f"{chance.getrandbits(128):032x}",
            "tokens": chance.randrange(4096),
        }
        for _ in range(count)
    ]


def chat(items: list[dict[str, Any]], step: int = 0) -> bytes:
    packed: bytes = msgpack.packb({"messages": items, "step": step})
    return packed


MESSAGES = messages(200)
BASE = chat(MESSAGES)
GROWN = chat([*MESSAGES, *messages(1, seed=2)], step=1)


def decoded(encoded: Encoded, base: bytes | None = None, max_bytes: int = 64 * MB) -> bytes:
    """The state, where the store has `base` and nothing else."""
    bases = {} if base is None else {content_hash(base): base}
    return decode(encoded.blob, fetch_base=bases.__getitem__, max_bytes=max_bytes)


STATES = {
    "empty": b"",
    "one byte": b"x",
    "small": b"small state" * 3,
    "one block": random.Random(3).randbytes(4096),
    "zeros": bytes(300_000),
    "random": random.Random(4).randbytes(100_000),
    "chat": GROWN,
    "base": BASE,
}
GOLDEN_BASE = b"The base of all of these blobs, known to whoever reads them. " * 2
GOLDEN_STATE = GOLDEN_BASE + b"And what came next."
