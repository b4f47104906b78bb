"""Ids that adapters give their executions and nodes.

A framework's own ids may hold anything: slashes, NUL bytes, 10,000 characters. An execution's id is
``<framework>:<part>/<part>...`` with every part escaped as in a URL, so different parts never give
the same id, and a person can read it. The nodes of an execution begin with its id and a slash, so
ids of nodes are unique in the store, and sort within the execution by what follows.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import xxhash

#: Longest part of an id that stays readable (characters, escaped); what is longer ends in a hash.
MAX_PART: Final = 120
_SAFE: Final = "@+=,-_.~!*()' "
_HASH_CHARS: Final = 34


def execution_name(framework: str, *parts: str) -> str:
    """The id of the execution that is ``parts`` of a framework: ``crewai:flow-7``."""
    return f"{framework}:{'/'.join(map(part_name, parts))}"


def part_name(part: str) -> str:
    """Any text as a part of an id: different texts give different parts."""
    escaped = quote(part.encode("utf-8", "surrogatepass"), safe=_SAFE)
    if len(escaped) <= MAX_PART:
        return escaped
    digest = xxhash.xxh3_128_hexdigest(part.encode("utf-8", "surrogatepass"))
    return f"{escaped[: MAX_PART - _HASH_CHARS]}%%{digest}"  # no escape begins so


def is_shortened(name: str) -> bool:
    """Whether a part of an id was so long that the id does not say it any more."""
    return "%%" in name


def behind_prefix(prefix: str) -> str:
    """The first text, in order of code points, behind all that begin with ``prefix``, which ends in
    an ASCII character: the end of a :class:`~livingai.NodeRange`."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
