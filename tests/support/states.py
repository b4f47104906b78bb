"""States that any process can work out again, so that bytes can be compared across processes."""

from __future__ import annotations

import random
from functools import lru_cache

_TEXT = (
    "the agent plans a call and reads the answer then writes what it found into its notes before "
    "asking the user whether order 4711 should be charged again because the first receipt is lost"
)

#: States of so many bytes and more copy nothing of those before them: a compressor encodes them.
LARGE = 300_000


@lru_cache(maxsize=256)
def _text(execution: str, size: int) -> bytes:
    words = random.Random(execution).choices(_TEXT.split(), k=size // 3 + 1)
    return " ".join(words).encode()[:size]


def state_of(execution: str, step: int, size: int = 5000) -> bytes:
    """The state of ``execution`` at ``step``: a chat-like text of ``size`` bytes and 64 more per
    step, behind a line that names both; from ``LARGE`` on in letters of the step's own."""
    most = size + 64 * 256
    text = _text(execution, most)[: size + 64 * step]
    if size >= LARGE:
        text = text.translate(bytes((byte + step) % 256 for byte in range(256)))
    return f"{execution} step {step}\n".encode() + text
