"""Made-up agent runs: the shape of real ones, from a seed, without any data.

A run is a list of chat messages as model APIs have them: ``role`` (system, user, assistant, tool),
``content``, ``tool_calls`` and ``tool_call_id``. Words follow Zipf's law over a vocabulary of
common English words and made-up rare ones (names, places, products), and tool results are JSON
with numbers and ids, so that the text compresses like real text: zstd at level 1 makes 250 KB of
it about 2.7 times smaller.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from typing import Any, Final

Message = dict[str, Any]

_COMMON: Final = """
the to and you of a in for is that it on with your have this be are can not or as from will we if
please would like need at my one was an by there do has but all about our which when what more so
up out their time no any new help could should may these only then also other now how first after
before order number change price account details information available total payment return item
service customer support confirm address email shipping request issue check update today between
because both same days address option options based provide found following reservation flight
date plan step search result results file error test function value data list query table user
system report summary question answer section source note version page line code name type status
current next last made make see find use used using get set run work works working still within
without
""".split()  # noqa: SIM905 - two pages of quotation marks otherwise

_SYLLABLES: Final = """
al an ar ba bel ber bi bor bra ca cal can car ce ci co cor cre da dal de den der di do dor du el
en er es fa fen fi for ga gan gel ger gi gra ha hal he hel ho in is ja jo ka kel ki kor la lan le
len li lo lor lu ma mal man mar me mel mi mo mon mor na nel ni no nor o ol on or os pa par pe pel
pi por ra ran re ren ri ro ros ru sa sal san se sel sen si so sor sta ta tan te tel ten ter ti to
tor tra tu ul un ur va vel ven ver vi vo vor wa wel wi za zen zi
""".split()  # noqa: SIM905 - two pages of quotation marks otherwise

_VOCABULARY: Final = 12_000
_TOOLS: Final = ("search_orders", "get_user_details", "run_query", "read_file", "update_record")


class Prose:
    """An endless supply of words, sentences and messages. Equal seeds give equal text."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(f"livingai/{seed}")
        # The vocabulary is the same for every seed, as a language is.
        maker = random.Random("livingai/vocabulary")
        words = dict.fromkeys(_COMMON)
        while len(words) < _VOCABULARY:
            word = "".join(maker.choices(_SYLLABLES, k=maker.choice((2, 2, 3, 3, 4))))
            words[word.capitalize() if maker.random() < 0.15 else word] = None
        self._words = list(words)
        weights = (1 / math.pow(rank + 3, 0.95) for rank in range(len(self._words)))
        self._weights = list(itertools.accumulate(weights))

    def words(self, count: int) -> list[str]:
        """``count`` words, frequent ones often."""
        return self._random.choices(self._words, cum_weights=self._weights, k=count)

    def text(self, count: int) -> str:
        """About ``count`` words in sentences and paragraphs, with some figures in between."""
        rng = self._random
        parts: list[str] = []
        left = count
        while left > 0:
            size = min(left, rng.randint(4, 22))
            left -= size
            words = self.words(size)
            if rng.random() < 0.4:
                words[rng.randrange(size)] = f"{rng.uniform(1, 900):.2f}"
            sentence = " ".join(words)
            parts.append(
                sentence[:1].upper() + sentence[1:] + rng.choice((".", ".", ".", "?", ":"))
            )
            if rng.random() < 0.15:
                parts.append("\n\n-" if rng.random() < 0.5 else "\n\n")
        return " ".join(parts)

    def call(self) -> Message:
        """An assistant's message that calls a tool."""
        rng = self._random
        arguments = {"id": f"{rng.choice(self._words)}_{rng.randrange(10_000)}"}
        function = {"name": rng.choice(_TOOLS), "arguments": json.dumps(arguments)}
        call = {"id": f"call_{rng.getrandbits(96):024x}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}

    def result(self, call: Message) -> Message:
        """The tool message that answers ``call``: JSON, now and then a page of text."""
        rng = self._random
        made = call["tool_calls"][0]
        rows = [
            {
                "id": f"{rng.getrandbits(32):08X}",
                "name": " ".join(self.words(2)),
                "amount": round(rng.uniform(1, 2000), 2),
                "note": " ".join(self.words(rng.randint(3, 14))),
            }
            for _ in range(rng.choice((1, 1, 2, 3, 5)))
        ]
        content = self.text(rng.randint(100, 250)) if rng.random() < 0.1 else json.dumps(rows)
        return {
            "role": "tool",
            "tool_call_id": made["id"],
            "name": made["function"]["name"],
            "content": content,
        }

    def messages(self) -> Iterator[Message]:
        """A conversation without an end: user, then assistant and tools, and again."""
        rng = self._random
        while True:
            yield {"role": "user", "content": self.text(rng.randint(5, 40))}
            while rng.random() < 0.55:
                call = self.call()
                yield call
                yield self.result(call)
            yield {"role": "assistant", "content": self.text(int(rng.lognormvariate(3.8, 0.7)))}


def make_run(seed: int | str, messages: int) -> list[Message]:
    """One made-up run of ``messages`` messages (a few more where a tool's answer is due)."""
    prose = Prose(seed)
    run: list[Message] = [{"role": "system", "content": prose.text(400)}]
    for message in prose.messages():
        run.append(message)
        if len(run) >= messages and not message.get("tool_calls"):
            return run
    raise AssertionError("a conversation has no end")
