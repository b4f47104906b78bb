"""A :class:`~livingai.stores.base.Row` as columns of PostgreSQL.

``wire`` and ``blob`` are exact bytes, each with its sum. All other columns are for people and
queries. ``text`` and ``jsonb`` hold neither the NUL character nor lone surrogates:

* In ids, and in the strings of JSON columns, U+0000 is written as U+0001 U+0001 and U+0001 as
  U+0001 U+0002. This keeps order, prefixes and equality, and changes no id that people choose.
* A lone surrogate in a column for people is described; an id with one is refused.
"""

from __future__ import annotations

import re
from typing import Any, Final

from livingai.stores.base import Row
from livingai.stores.shared.human import human_json
from livingai.stores.shared.rows import Write, node_columns
from livingai.stores.shared.rows import prepare as prepare_write
from livingai.stores.shared.rows import read_blob as checked_blob
from livingai.stores.shared.rows import read_wire as checked_wire

#: Two ids in one index entry; a third of a page (2704 bytes) is the most that an index takes.
MAX_KEY_BYTES: Final = 2600
#: A message to the server has at most 1 GB, and the server copies what it gets.
MAX_BLOB_BYTES: Final = 512 << 20

_ESCAPED: Final = {"\0": "\1\1", "\1": "\1\2"}
_PLAIN: Final = {escaped: plain for plain, escaped in _ESCAPED.items()}
#: In JSON text; a backslash that is itself escaped begins no escape.
_IN_JSON = re.compile(r"\\(?:\\|u000[01])")
_FOR_JSON: Final = {"\\u0000": "\\u0001\\u0001", "\\u0001": "\\u0001\\u0002"}


def key(text: str) -> str:
    """An id as ``text`` can hold it; order and prefixes stay."""
    if "\0" in text or "\1" in text:
        return re.sub("[\0\1]", lambda found: _ESCAPED[found[0]], text)
    return text


def unkey(text: str) -> str:
    """The id that :func:`key` was given."""
    return re.sub("\1.", lambda found: _PLAIN[found[0]], text) if "\1" in text else text


def is_text(*texts: str) -> bool:
    """Whether these are ids that can be stored; nothing is found under others."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def jsonb(value: Any) -> str | None:
    """``value`` as JSON text that ``jsonb`` takes; None for None."""
    return clean_json(human_json(value))


def clean_json(text: str | None) -> str | None:
    """JSON text without what ``jsonb`` does not take."""
    if text is None or "\\u000" not in text:
        return text
    return _IN_JSON.sub(lambda found: _FOR_JSON.get(found[0], found[0]), text)


def prepare(row: Row) -> Write | str:
    """``row`` ready for a batch, or the reason why this store could never take it."""
    for name in ("execution_id", "node_id", "claim"):
        value = getattr(row, name)
        if isinstance(value, str) and not is_text(value):
            return f"{name} has lone surrogates, which PostgreSQL's text cannot hold"
    write = prepare_write(row)
    if isinstance(write, str):
        return write
    for other in (row.node_id, row.claim):
        if len(key(row.execution_id).encode()) + len(key(other).encode()) > MAX_KEY_BYTES:
            return f"an id is too long: PostgreSQL indexes at most {MAX_KEY_BYTES} bytes of ids"
    if max(write.stored_bytes, len(write.wire)) > MAX_BLOB_BYTES:
        return (
            f"a checkpoint or node of more than {MAX_BLOB_BYTES >> 20} MB does not fit into "
            "PostgreSQL; keep large artefacts outside the state"
        )
    return write


def columns(write: Write, *, human: bool = True) -> tuple[Any, ...]:
    """The columns of ``nodes`` from ``type`` to ``wire``; without ``human`` those that only people
    read are NULL."""
    kind, status, name, parent, *numbers, inp, output, error, metadata, wire_sum, wire = (
        node_columns(write)
    )
    texts = [clean_json(text) for text in (inp, output, error, metadata)]
    shown = (name and key(name), parent and key(parent)) if human else (None, None)
    return (
        key(kind), key(status), *shown, *numbers, *(texts if human else [None] * 4), wire_sum, wire,
    )  # fmt: skip


def read_wire(execution_id: str, node_id: str | None, wire: Any, wire_sum: Any) -> list[Any]:
    """The node section as it was written; ids as the tables have them.

    Raises:
        CorruptRecordError: the bytes are not those that were written.
    """
    return checked_wire(unkey(execution_id), unkey(node_id or ""), wire, wire_sum)


def read_blob(execution_id: str, blob: Any, blob_sum: Any) -> bytes:
    """The encoded checkpoint as it was written.

    Raises:
        CorruptBlobError: the bytes are not those that were written.
    """
    return checked_blob(unkey(execution_id), blob, blob_sum)
